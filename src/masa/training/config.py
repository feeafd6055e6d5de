"""`MASAConfig`: TRL's `GRPOConfig`, the method's settings and the presets that fill in what is left open."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from trl import GRPOConfig

from masa.awareness import Cutoff, Gate, PaperRule, RewardOptions
from masa.awareness.notions import Matching
from masa.awareness.rewards import DifficultyReward, LengthReward, NotionReward
from masa.checks import wrong_types
from masa.errors import UserError, unknown_key_message
from masa.rollout.requests import RequestMaker
from masa.runs.jsonlines import plain
from masa.training.machine import cpu_has_fast_bf16
from masa.training.presets import NEVER, PRESETS, resolve

_DERIVED = (
    "generation_batch_size",
    "steps_per_generation",
    "gradient_accumulation_steps",
    "per_device_train_batch_size",
)
"""TRL's batch fields, which follow from `problems_per_step` where it is given."""
_LEAST = {
    "min_solution_length": 1,
    "max_completion_length": 1,
    "max_meta_length": 1,
    "max_prompt_length": 1,
    "micro_batch_rows": 1,
    "engine_batch_size": 1,
    "num_threads": 1,
    "warm_start": 0,
    "warm_start_updates": 1,
    "expert_buffer_size": 1,
    "expert_updates": 1,
    "show_completions_every": 0,
    "top_k": 0,
}


def _help(text: str, default: Any = None) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass
class MASAConfig(GRPOConfig):  # type: ignore[misc]
    """Settings of [`MASATrainer`].

    All of TRL's `GRPOConfig` applies. A field that a preset decides defaults to None, "from the preset", inherited
    ones (`epsilon_high`) included, so that a value given by the user always wins.

    Raises:
        UserError: on an unknown preset or a contradiction between settings; nothing is rewritten silently.
    """

    preset: str = _help("Which published recipe fills in the open settings: " + ", ".join(PRESETS) + ".", "masa")

    # What a step consists of
    problems_per_step: int | None = _help(
        "Problems drawn a step, over all processes. With `num_generations` it fixes TRL's generation batch; leave "
        "`per_device_train_batch_size` and `gradient_accumulation_steps` alone then."
    )
    micro_batch_rows: int = _help("Rows of one forward and backward pass when `problems_per_step` is given.", 64)
    num_meta_generations: int | None = _help("M, meta rollouts a problem; 0 turns the meta path off.")
    loss_denominator: str = _help(
        "`live`: each path is divided by the tokens of its own groups that can teach; `all`: by all tokens, as TRL.",
        "live",
    )
    meta_weight: float = _help("Weight of the meta path in the loss (`loss_denominator: live` only).", 1.0)

    # What the policy is asked and how its answer is rewarded
    meta_prompt: str = _help("Meta prompt template: a built-in name or a text with {problem}.", "math")
    problem_column: str | None = _help("Dataset column with the problem's text; default: the last user message.")
    min_solution_length: int = _help("Smallest length the meta prompt lets the policy foretell, in tokens.", 128)
    max_meta_length: int | None = _help("Token limit of a meta rollout; default: max_completion_length.")
    difficulty_base: float = _help("b of the difficulty reward b ** |p - p^|.", 0.01)
    difficulty_reward: str = _help("`power` (the paper's) or `brier` (proper).", "power")
    length_reward: str = _help("`range` (the paper's) or `log-ratio`.", "range")
    notion_reward: str = _help("`counts` (the paper's) or `rates`.", "counts")
    notion_matching: str = _help("`lemma`, or `substring` for comparison with the reference code.", "lemma")
    correctness: str | None = _help("Name of the reward function that says what is correct; default: the only one.")
    correct_threshold: float = _help("A reward of at least this is correct.", 0.99)
    max_prompt_length: int | None = _help("Problems whose solution or meta prompt is longer (tokens) are left out.")

    # When and how predictions save work
    parallel_steps: int | str | None = _help("k, steps before the predictive phase; `never` stays parallel.")
    gate: str | None = _help("Predictor that decides which problems are rolled out: `self` or `none`.")
    gate_std: float = _help("A problem is gated only if its predicted pass rates deviate by less than this.", 0.1)
    audit_rate: float = _help(
        "Share of gated problems rolled out all the same, and of problems exempt from cutoffs.", 0.05
    )
    max_gated_share: float = _help("At most this share of a step's problems is gated.", 0.75)
    cutoff: bool | None = _help("Limit solution rollouts by the predicted length.")
    cutoff_factor: float | None = _help("The limit is this times the predicted length.")
    hints: bool | None = _help("Name foretold notions in the solution prompt (predictive phase).")

    # Fine-tuning on the policy's own best predictions
    warm_start: int = _help("Problems sampled before RL to teach the prediction's form and facts; 0: no warm start.", 0)
    warm_start_updates: int = _help("Gradient updates of the warm start, on micro_batch_rows examples each.", 20)
    warm_start_learning_rate: float | None = _help("Default: learning_rate.")
    expert_sft: bool | None = _help("Fine-tune on the best own predictions with true statistics put in.")
    expert_buffer_size: int = _help("N, trajectories collected before an expert update.", 128)
    expert_updates: int = _help("U, gradient updates when the buffer is full.", 5)
    expert_learning_rate: float | None = _help("Default: learning_rate.")
    expert_threshold: float = _help("Smallest notion reward of an expert trajectory.", 0.2)
    expert_include_unsolved: bool | None = _help("Problems never solved give expert trajectories too.")
    expert_consistent: bool = _help("Only predictions whose own numbers were already near the truth.", False)

    # The machine
    bf16: bool | str | None = _help(
        "bfloat16 arithmetic over float32 weights, in rollouts and updates; `auto`: where the machine is fast at it. "
        "Default: TRL's on a GPU, off on a CPU."
    )
    engine_batch_size: int = _help("Rollouts generated at the same time (slots of the engine).", 256)
    packed_update: bool = _help(
        "Compute the update without padding and a prompt shared by rollouts only once, where the model allows it; "
        "false: TRL's own forward pass. Loss and gradient are the same.",
        True,
    )
    num_threads: int | None = _help("CPU threads; default: 1 for models under 10 M parameters, else torch's own.")
    show_completions_every: int = _help("Print one solution and one prediction every n steps; 0: never.", 0)
    log_rollouts: bool = _help("Write every rollout to the run folder.", True)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise UserError(unknown_key_message("preset", self.preset, PRESETS))
        if self.num_generations is not None and self.num_generations < 2:
            raise UserError(
                f"num_generations is {self.num_generations}: a group needs at least 2 solution rollouts to compare"
            )
        for name in PRESETS[self.preset]:
            if getattr(self, name) is None:
                setattr(self, name, resolve(self.preset, name, num_generations=self.num_generations or 0))
        self._settle_precision()
        self._check()
        if self.problems_per_step is not None:
            self._derive_batch_fields()
        super().__post_init__()
        if self.gate != "none" and not math.floor(self.max_gated_share * self.problems_a_step):
            raise UserError(
                f"the gate could never act: max_gated_share ({self.max_gated_share}) of {self.problems_a_step} problems"
                " a step is less than one; raise problems_per_step, or set gate to 'none'"
            )

    @property
    def has_predictive_phase(self) -> bool:
        """Whether the run ever predicts before it rolls out."""
        return self.parallel_steps != NEVER

    def is_predictive(self, step: int) -> bool:
        """Whether `step` (counted from 1) lies in the predictive phase."""
        return self.has_predictive_phase and step > int(self.parallel_steps or 0)

    @property
    def problems_a_step(self) -> int:
        """P: problems drawn a step, however the batch was given."""
        return self.problems_per_step or (self.generation_batch_size or 0) // (self.num_generations or 1)

    def request_maker(self) -> RequestMaker:
        """Requests under this run's seed, sampling and limits."""
        longest = self.max_completion_length or 0
        return RequestMaker(
            seed=self.seed,
            max_tokens=longest,
            max_meta_tokens=self.max_meta_length or longest,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
        )

    def reward_options(self) -> RewardOptions:
        """The forms of the self-alignment rewards."""
        return RewardOptions(
            base=self.difficulty_base,
            difficulty=cast(DifficultyReward, self.difficulty_reward),
            length=cast(LengthReward, self.length_reward),
            notion=cast(NotionReward, self.notion_reward),
            matching=cast(Matching, self.notion_matching),
        )

    def make_gate(self) -> Gate | None:
        """The gate asked for; None rolls out every problem."""
        if self.gate == "none":
            return None
        return Gate(self.seed, PaperRule(gate_std=self.gate_std), max_share=self.max_gated_share, audit=self.audit_rate)

    def make_cutoff(self) -> Cutoff | None:
        """The cutoff asked for; None leaves every rollout the run's own limit."""
        if not self.cutoff or self.cutoff_factor is None:
            return None
        return Cutoff(
            self.seed,
            minimum=self.min_solution_length,
            maximum=self.max_completion_length or 0,
            factor=self.cutoff_factor,
            exempt=self.audit_rate,
        )

    def _settle_precision(self) -> None:
        """Without a GPU: float32 unless asked otherwise, and `auto` is bfloat16 where the processor multiplies it.

        TRL turns bf16 on wherever it is left open, and transformers then demands `use_cpu` of a machine without a GPU.
        """
        if torch.cuda.is_available() and not self.use_cpu:
            if self.bf16 == "auto":
                self.bf16: bool | str | None = None  # TRL's default there
        elif self.bf16 == "auto":
            self.bf16 = cpu_has_fast_bf16() and not self.fp16
            self.use_cpu: bool = True
        elif self.bf16 is None:
            self.bf16 = False

    def _check(self) -> None:
        """Refuse contradictions, each with the value and the remedy."""
        M = self.num_meta_generations or 0
        problems: list[str] = []
        if M == 1 or M < 0:
            problems.append(f"num_meta_generations is {M}: use 0 (no meta path) or at least 2, a group to compare")
        if M == 0:
            for name, value, off in (
                ("cutoff", self.cutoff, False),
                ("gate", self.gate, "none"),
                ("hints", self.hints, False),
                ("expert_sft", self.expert_sft, False),
                ("warm_start", self.warm_start, 0),
            ):
                if value != off:
                    problems.append(
                        f"{name} is {value!r} but num_meta_generations is 0: it needs predictions, so set "
                        f"num_meta_generations to 2 or more, or {name} to {off!r}"
                    )
        if self.gate not in ("none", "self"):
            problems.append(unknown_key_message("gate", str(self.gate), ("none", "self")))
        if not (self.parallel_steps == NEVER or (isinstance(self.parallel_steps, int) and self.parallel_steps >= 0)):
            problems.append(
                f"parallel_steps is {self.parallel_steps!r}: use a number of steps, 0 or more, or {NEVER!r}"
            )
        if not self.has_predictive_phase:
            problems.extend(
                f"{name} is on but parallel_steps is {NEVER!r}: it acts in the predictive phase only, so set "
                f"parallel_steps to a number of steps"
                for name, is_on in (("cutoff", self.cutoff), ("gate", self.gate != "none"), ("hints", self.hints))
                if is_on
            )
        for name, choices in (
            ("loss_denominator", ("live", "all")),
            ("difficulty_reward", ("power", "brier")),
            ("length_reward", ("range", "log-ratio")),
            ("notion_reward", ("counts", "rates")),
            ("notion_matching", ("lemma", "substring")),
        ):
            if getattr(self, name) not in choices:
                problems.append(unknown_key_message(name, getattr(self, name), choices))
        for name, low, high in (
            ("audit_rate", 0.0, 1.0),
            ("max_gated_share", 0.0, 1.0),
            ("difficulty_base", 0.0, 1.0),
            ("expert_threshold", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                problems.append(f"{name} is {getattr(self, name)}: it must lie between {low:g} and {high:g}")
        problems.extend(
            f"{name} is {value}: it must be at least {least}"
            for name, least in _LEAST.items()
            if (value := getattr(self, name)) is not None and value < least
        )
        rates = ("expert_learning_rate", "warm_start_learning_rate", "meta_weight")
        problems.extend(
            f"{name} is {value}: it must be above 0"
            for name in rates
            if (value := getattr(self, name)) is not None and not value > 0
        )
        if not self.temperature > 0:
            problems.append(f"temperature is {self.temperature}: it must be above 0, or all rollouts of a group agree")
        if not 0 < self.top_p <= 1:
            problems.append(f"top_p is {self.top_p}: it must be above 0 and at most 1")
        if self.cutoff and not (self.cutoff_factor or 0) > 0:
            problems.append(f"cutoff_factor is {self.cutoff_factor}: it must be above 0")
        if M and self.min_solution_length >= (self.max_completion_length or 0):
            problems.append(
                f"min_solution_length ({self.min_solution_length}) must lie below max_completion_length "
                f"({self.max_completion_length}), since predictions range from one to the other"
            )
        if self.loss_denominator == "all" and self.meta_weight != 1.0:
            problems.append("meta_weight needs loss_denominator 'live': with 'all' both paths share one denominator")
        if problems:
            raise UserError("; ".join(problems))

    def _derive_batch_fields(self) -> None:
        """Turn problems and rows into TRL's batch fields.

        TRL wants generation_batch_size = rows x processes x steps, a multiple of the group size. The number of
        micro-batches is the smallest divisor of a process's solution rows that leaves room for its meta rows.
        """
        unset = dict.fromkeys(_DERIVED) | {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 8}
        clashes = [name for name, default in unset.items() if getattr(self, name) != default]
        if clashes:
            raise UserError(
                f"problems_per_step fixes the batch: leave {', '.join(clashes)} unset; micro_batch_rows bounds memory"
            )
        G, M = self.num_generations or 0, self.num_meta_generations or 0
        assert self.problems_per_step is not None
        if self.problems_per_step < 1:
            raise UserError(f"problems_per_step is {self.problems_per_step}: it must be at least 1")
        rows = self.problems_per_step * G
        needed = math.ceil(self.problems_per_step * (G + M) / self.micro_batch_rows)
        self.gradient_accumulation_steps: int = next(n for n in range(min(needed, rows), rows + 1) if rows % n == 0)
        self.per_device_train_batch_size = rows // self.gradient_accumulation_steps

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MASAConfig:
        """Build from plain values, refusing unknown keys with the nearest known one.

        Raises:
            UserError: on unknown keys or contradictions.
        """
        known = [f.name for f in fields(cls) if f.init]
        unknown = [key for key in values if key not in known]
        if unknown:
            raise UserError("; ".join(unknown_key_message("setting", key, known) for key in unknown))
        wrong = wrong_types(values, cls)
        if wrong:
            raise UserError("; ".join(wrong))
        try:
            return cls(**values)
        except UserError:
            raise
        except (TypeError, ValueError) as error:  # transformers and TRL check their own settings
            raise UserError(f"settings: {error}") from error

    def resolved(self) -> dict[str, Any]:
        """All settings after presets, as plain values that `from_dict` takes; what they imply is left out."""
        implied = _DERIVED if self.problems_per_step is not None else ()
        names = [f.name for f in fields(self) if f.init and not f.name.startswith("_") and f.name not in implied]
        return {name: plain(getattr(self, name)) for name in names}
