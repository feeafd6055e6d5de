"""Who decides how rollouts are spent: predictor, gate, cutoff and the phase they act in, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from masa.awareness import (
    Allocation,
    CalibratedRule,
    Cutoff,
    ExplorationRule,
    FixedPhases,
    Gate,
    GateRule,
    PaperRule,
    Phases,
    PhaseSwitch,
    Predictor,
    make_predictor,
)
from masa.awareness.cutoff import CutoffRule
from masa.training.config import MASAConfig
from masa.training.presets import AUTO, NEVER


@dataclass(slots=True)
class Advisers:
    """The parts that learn from outcomes; each is in the checkpoint and in the metrics."""

    predictor: Predictor
    gate: Gate | None
    """None rolls out every problem."""
    cutoff: Cutoff | None
    """None leaves every rollout the run's own limit."""
    phases: Phases
    allocation: Allocation | None = None
    """None makes groups of one size; it has nothing to learn."""

    def parts(self) -> dict[str, Any]:
        """Those that are there, by name."""
        parts = {"predictor": self.predictor, "gate": self.gate, "cutoff": self.cutoff, "phases": self.phases}
        return {name: part for name, part in parts.items() if part is not None}


def make_advisers(config: MASAConfig) -> Advisers:
    """The advisers that the settings ask for."""
    return Advisers(_predictor(config), _gate(config), _cutoff(config), _phases(config), _allocation(config))


def _predictor(config: MASAConfig) -> Predictor:
    if config.gate == "none":
        return make_predictor("self" if config.num_meta_generations else "none")
    options = {"predictions": config.meta_problems} if config.gate == "combined" else {}
    return make_predictor(str(config.gate), **options)


def _gate(config: MASAConfig) -> Gate | None:
    if config.gate == "none":
        return None
    most, audit = config.max_gated_share, config.audit_rate
    if config.refill == "best":
        over = config.draws_over_problems
        most = min(most, 1 - 1 / over)  # enough must pass to choose among
        audit *= min(1.0, 1 / (over - 1))  # of what is not chosen, so many times as much, only as much is audited
    return Gate(config.seed, _rule(config), max_share=most, audit=audit)


def _rule(config: MASAConfig) -> GateRule:
    name = config.gate_rule
    if name is None:
        name = {"self": "paper", "in-context": "paper", "history": "exploration"}.get(str(config.gate), "calibrated")
    if name == "paper":
        return PaperRule(gate_std=config.gate_std)
    if name == "exploration":
        return ExplorationRule()
    return CalibratedRule(group_size=config.num_generations or 0, threshold=cast(float, config.gate_threshold))


def _cutoff(config: MASAConfig) -> Cutoff | None:
    if not config.cutoff:
        return None
    return Cutoff(
        config.seed,
        minimum=config.min_solution_length,
        maximum=config.max_completion_length or 0,
        rule=cast(CutoffRule, config.cutoff_rule),
        factor=config.cutoff_factor or 1.0,
        quantile=config.cutoff_quantile,
        exempt=config.audit_rate,
    )


def _phases(config: MASAConfig) -> Phases:
    k = config.parallel_steps
    if k == AUTO:
        return PhaseSwitch(floor=config.precision_floor)
    return FixedPhases(None if k == NEVER else int(k or 0))


def _allocation(config: MASAConfig) -> Allocation | None:
    nominal = config.num_generations or 0
    if config.allocation == "knapsack":
        return Allocation(nominal, config.allocation_least, config.largest_group, config.allocation_budget)
    return Allocation(nominal, nominal, nominal, by_length=False) if config.refill == "best" else None
