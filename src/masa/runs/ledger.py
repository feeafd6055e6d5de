"""What a run spent and what it saved, in tokens, updates and seconds.

Tokens are generated or trained-on tokens, end-of-sequence included, prompts not. The four kinds of generated
tokens of training (solution, meta, audit, warm start) do not overlap, so they can be added up and stacked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(slots=True)
class Ledger:
    """Running totals since the first step; a resumed run loads them from its checkpoint."""

    solution_tokens: int = 0
    """Generated for solution rollouts of problems that the gate let through."""
    meta_tokens: int = 0
    """Generated for meta rollouts."""
    audit_tokens: int = 0
    """Generated for solution rollouts of problems that were rolled out only because they were audited."""
    warm_start_tokens: int = 0
    """Generated to build the warm start's expert trajectories."""
    evaluation_tokens: int = 0
    """Generated for held-out evaluations: not a cost of training."""
    live_tokens: int = 0
    """Generated for solution groups that turned out to be live, audits included: a part of the above."""
    trained_tokens: int = 0
    """Run through the policy-gradient update."""
    expert_tokens: int = 0
    """Run through expert SFT updates, warm start included, repetitions counted."""
    saved_gate_tokens: float = 0.0
    """Estimated from audits: what the gated problems' solution rollouts would have cost."""
    saved_cutoff_tokens: float = 0.0
    """Estimated from exempt problems: what cut rollouts would have gone on to generate."""
    solution_rollouts: int = 0
    """Solution rollouts generated, audits included."""
    meta_rollouts: int = 0
    cut_rollouts: int = 0
    """Solution rollouts that ended at a predicted limit."""
    gated_problems: int = 0
    """Problems that got no solution rollouts."""
    policy_updates: int = 0
    """Optimizer updates by policy gradient."""
    expert_updates: int = 0
    """Optimizer updates by expert SFT."""
    steps: int = 0
    steps_without_live_group: int = 0
    """Steps that made no policy-gradient update, since every group had zero variance."""
    steps_not_finite: int = 0
    """Steps whose policy-gradient update was skipped, since loss or gradient was not finite."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by what it went into, for example `rollout`, `update`, `evaluation`."""

    @property
    def generated_tokens(self) -> int:
        """Everything generated for training; evaluation apart."""
        return self.solution_tokens + self.meta_tokens + self.audit_tokens + self.warm_start_tokens

    @property
    def net_saved_tokens(self) -> float:
        """Saved by gate and cutoff, less what the predictions cost.

        Audits are no cost here: plain GRPO would have generated the same rollouts.
        """
        return self.saved_gate_tokens + self.saved_cutoff_tokens - self.meta_tokens

    def totals(self) -> dict[str, Any]:
        """Everything, and what follows from it: as written to `ledger.json`."""
        return self.state_dict() | {
            "generated_tokens": self.generated_tokens,
            "net_saved_tokens": self.net_saved_tokens,
        }

    def add(self, **amounts: float) -> None:
        """Adds to totals by name, for example `add(meta_tokens=512, steps=1)`.

        Raises:
            TypeError: for a name that is not a total.
            ValueError: for a negative amount of anything that is counted; estimates may go down.
        """
        for name, amount in amounts.items():
            if name not in COUNTS and name not in ESTIMATES:
                raise TypeError(f"the ledger has no total {name!r}")
            if name in COUNTS and amount < 0:
                raise ValueError(f"{name}: cannot add {amount}")
            setattr(self, name, getattr(self, name) + (int(amount) if name in COUNTS else float(amount)))

    def add_seconds(self, **amounts: float) -> None:
        """Adds wall time in seconds, for example `add_seconds(rollout=1.2, update=0.4)`."""
        for name, amount in amounts.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + amount

    def state_dict(self) -> dict[str, Any]:
        """Everything, in JSON's types."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over all totals.

        Raises:
            ValueError: if the state has other names than this version's ledger.
        """
        names = {entry.name for entry in fields(self)}
        if set(state) != names:
            raise ValueError(f"not this version's ledger: names that differ are {sorted(set(state) ^ names)}")
        for name, value in state.items():
            setattr(self, name, dict(value) if name == "seconds" else value)


ESTIMATES = ("saved_gate_tokens", "saved_cutoff_tokens")
"""Totals that are estimates: floats, and free to go down."""
COUNTS = tuple(entry.name for entry in fields(Ledger) if entry.name not in {*ESTIMATES, "seconds"})
"""Totals that are counted: whole numbers that only grow."""
