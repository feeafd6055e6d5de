"""`MASAConfig`: TRL's `GRPOConfig`, the method's settings and the presets that fill in what is left open."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from trl import GRPOConfig

from masa.awareness import PREDICTORS, RewardOptions
from masa.awareness.notions import Matching
from masa.awareness.rewards import DifficultyReward, LengthReward, NotionReward
from masa.checks import wrong_types
from masa.errors import UserError, unknown_key_message
from masa.rollout.requests import RequestMaker
from masa.runs.jsonlines import plain
from masa.scaling import Workload
from masa.training.contradictions import batch_contradictions, contradictions
from masa.training.machine import cpu_has_fast_bf16
from masa.training.presets import AUTO, NEVER, PRESETS, resolve

# transformers and TRL check their own settings, by opening files, converting numbers and importing what they name.
_REFUSALS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, OSError, ImportError, RuntimeError)
_MOST_ROWS = 1_000_000
"""Rollouts of a step, of either kind; far beyond what any machine holds."""
_DERIVED = (
    "generation_batch_size",
    "steps_per_generation",
    "gradient_accumulation_steps",
    "per_device_train_batch_size",
)
"""TRL's batch fields, which follow from `problems_per_step` where it is given."""


_SECRET = ("hub_token",)


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
    meta_reward_weights: list[float] = field(
        default_factory=lambda: [1.0, 1.0, 1.0],
        metadata={"help": "Weights of the difficulty, length and notion rewards in the self-alignment reward."},
    )
    correctness: str | None = _help("Name of the reward function that says what is correct; default: the only one.")
    correct_threshold: float = _help("A reward of at least this is correct.", 0.99)
    reward_timeout: float | None = _help(
        "Seconds a reward function may take for the answers of a step, else they stay ungraded; default: no limit."
    )
    max_prompt_length: int | None = _help("Problems whose solution or meta prompt is longer (tokens) are left out.")

    # When and how predictions save work
    parallel_steps: int | str | None = _help(
        "k, steps before the predictive phase; `never` stays parallel, `auto` enters and leaves by the gate's audits."
    )
    precision_floor: float = _help("`parallel_steps: auto`: least precision of the gate in the predictive phase.", 0.8)
    gate: str | None = _help("Predictor that decides which problems are rolled out: " + ", ".join(PREDICTORS) + ".")
    gate_rule: str | None = _help(
        "`paper` (deviation and mean), `calibrated` (probability of zero variance) or `exploration` (the predictor's "
        "own odds). Default: what fits the predictor."
    )
    gate_std: float = _help("Rule `paper`: gated only if predicted pass rates deviate by less than this.", 0.1)
    gate_threshold: float | None = _help("Rule `calibrated`: gated if zero variance is more probable than this.")
    audit_rate: float = _help(
        "Share of gated problems rolled out all the same, and of problems exempt from cutoffs. With `refill: best`, "
        "audits over problems rolled out.",
        0.05,
    )
    max_gated_share: float = _help("At most this share of a step's problems is gated by the rule.", 0.75)
    meta_problems: str | None = _help(
        "Problems that are foretold in the predictive phase: `all`, or `unseen`, those of which the predictor knows "
        "too little."
    )
    meta_audit_weight: float = _help("Audited meta groups weigh 1 / pi in the loss, at most this.", 1.0)
    refill: str | None = _help(
        "Draw further problems until a step has problems_per_step that pass the gate (`before` the rollouts) or that "
        "are live (`after` them, DAPO's dynamic sampling), or all at once to roll out problems_per_step of them, "
        "the `best` by the predictor; `none`: whatever is left."
    )
    refill_limit: float | None = _help(
        "Over problems_per_step: the problems that a step draws at most (`before`, `after`), or at once (`best`)."
    )
    allocation: str | None = _help(
        "`uniform`: num_generations rollouts a problem; `knapsack`: by foretold value and cost, in the same budget."
    )
    allocation_budget: float = _help("Predicted tokens to spend, over those of uniform groups.", 1.0)
    allocation_least: int = _help("Rollouts of the smallest group that `knapsack` makes.", 4)
    allocation_most: int | None = _help("Rollouts of the largest; default: twice num_generations.")
    cutoff: bool | None = _help("Limit solution rollouts by the predicted length.")
    cutoff_rule: str | None = _help(
        "The limit is cutoff_factor x L^ (`paper`), corrected by the observed median of length / L^ (`median`), or "
        "the quantile of length / L^ times L^ (`quantile`)."
    )
    cutoff_factor: float | None = _help("The limit is this times the (corrected) predicted length.")
    cutoff_quantile: float = _help("Rule `quantile`: share of correct rollouts that should end within the limit.", 0.98)
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
    vllm_python: str | None = _help(
        "`use_vllm` in mode `colocate`: interpreter of an environment that has vLLM, which then runs in a process of "
        "its own, one for each training process; default: vLLM is in this environment and the only process."
    )
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
    max_nonfinite_steps: int = _help(
        "Steps in a row whose loss or gradient is not finite, and whose update is skipped, before the run ends.", 5
    )
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
        if found := contradictions(self):
            raise UserError("; ".join(found))
        if self.problems_per_step is not None:
            self._derive_batch_fields()
        super().__post_init__()
        if found := batch_contradictions(self):
            raise UserError("; ".join(found))

    @property
    def problems_a_step(self) -> int:
        """P: problems drawn a step, however the batch was given."""
        return self.problems_per_step or (self.generation_batch_size or 0) // (self.num_generations or 1)

    @property
    def largest_group(self) -> int:
        """Solution rollouts of the largest group that `allocation: knapsack` makes."""
        return 2 * (self.num_generations or 0) if self.allocation_most is None else self.allocation_most

    @property
    def draws_over_problems(self) -> float:
        """Problems that a step draws at most, over `problems_a_step`."""
        return 1.0 if self.refill == "none" else cast(float, self.refill_limit)

    @property
    def corrects_sampling(self) -> bool:
        """Whether the loss is corrected for the engine's probabilities, which it must then hand out."""
        return bool(self.use_vllm and self.vllm_importance_sampling_correction)

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

    def workload(self) -> Workload:
        """What a step consists of, for the estimates of `masa.scaling`; with `auto` every step counts as predictive."""
        longest = self.max_completion_length or 0
        k = self.parallel_steps
        return Workload(
            problems=self.problems_a_step,
            solutions=self.num_generations or 0,
            predictions=self.num_meta_generations or 0,
            solution_limit=longest,
            meta_limit=self.max_meta_length or longest,
            prompt_limit=self.max_prompt_length,
            micro_batch_rows=self.micro_batch_rows if self.problems_per_step else self.per_device_train_batch_size,
            engine_rows=self.engine_batch_size,
            is_checkpointed=self.gradient_checkpointing,
            is_packed=self.packed_update,
            steps=self.max_steps if self.max_steps > 0 else None,
            parallel_steps=None if k == NEVER else 0 if k == AUTO else cast(int, k),
            is_gated=self.gate != "none" and self.refill == "none",
            cutoff_factor=self.cutoff_factor if self.cutoff and self.cutoff_rule != "quantile" else None,
            cutoff_quantile=self.cutoff_quantile if self.cutoff and self.cutoff_rule == "quantile" else None,
            audit_rate=self.audit_rate,
            max_gated_share=self.max_gated_share,
        )

    def reward_options(self) -> RewardOptions:
        """The forms of the self-alignment rewards."""
        return RewardOptions(
            base=self.difficulty_base,
            difficulty=cast(DifficultyReward, self.difficulty_reward),
            length=cast(LengthReward, self.length_reward),
            notion=cast(NotionReward, self.notion_reward),
            matching=cast(Matching, self.notion_matching),
            weights=cast(tuple[float, float, float], tuple(self.meta_reward_weights)),
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

    def _derive_batch_fields(self) -> None:
        """Turn problems and rows into TRL's batch fields.

        TRL wants generation_batch_size = rows x processes x steps, a multiple of the group size. The number of
        micro-batches is the smallest divisor of a process's solution rows that leaves room for all rows there may be;
        a process's solution rows are its share of them all, rounded up to whole groups.
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
        processes = int(os.environ.get("WORLD_SIZE") or 1)
        rows = math.ceil(self.problems_per_step / processes) * G
        is_knapsack = self.allocation == "knapsack"
        largest = self.largest_group if is_knapsack else G
        if self.problems_per_step * max(largest, G, M) > _MOST_ROWS:
            raise UserError(
                f"problems_per_step is {self.problems_per_step}: a step would have more than {_MOST_ROWS} rollouts"
            )
        # Dead groups' predictions teach too; and the tokens of few long groups may go into many short ones.
        foretold = M * (self.draws_over_problems if self.refill == "after" else 1)
        groups = self.problems_per_step * (self.draws_over_problems if self.refill == "best" and is_knapsack else 1)
        needed = math.ceil(math.ceil(groups / processes) * (largest + foretold) / self.micro_batch_rows)
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
        except _REFUSALS as error:
            raise UserError(f"settings: {error}") from error

    def resolved(self) -> dict[str, Any]:
        """All settings after presets, as plain values that `from_dict` takes.

        What they imply is left out, and so are access tokens: this is written to files that are shared.
        """
        left_out = (_DERIVED if self.problems_per_step is not None else ()) + _SECRET
        names = [f.name for f in fields(self) if f.init and not f.name.startswith("_") and f.name not in left_out]
        return {name: plain(getattr(self, name)) for name in names}
