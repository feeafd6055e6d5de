"""Solutions scored as verl scores them, with a note of which are correct; and MASA's graders as a reward function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls, register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from masa.errors import UserError
from masa.grading import grade_problem
from masa.integrations.verl.settings import Settings
from masa.records import Problem

CORRECT = "masa_correct"
"""Key of a solution's extra values: 1.0 if it is correct, else 0.0."""
NAME = "masa"
"""Of the reward manager and of the trainer in verl's registries."""


@register(NAME)
class MASARewardManager(RewardManagerBase):  # type: ignore[misc]
    """Hands solutions to another of verl's reward managers, and leaves predictions for the trainer to reward.

    verl 0.9.1 scores each rollout by itself as soon as it is there, each in one of several Ray actors
    (`RewardLoopWorker.compute_score`), so no reward manager sees the group that a prediction is about. Waiting here
    for the rest of the group would block for ever where a rollout of it fails. A prediction therefore gets 0 for the
    time being; `MASATrainerVerl` puts its reward in its place when the step's rollouts are complete. The batch-level
    registry, `verl.workers.reward_manager`, still exists but nothing in 0.9.1 reads it.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any, **router: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self.settings = Settings.from_config(config.data)
        if self.settings.reward_manager == NAME:
            raise UserError("data.masa.reward_manager cannot be 'masa' itself: name one of verl's, for example 'naive'")
        manager = get_reward_manager_cls(self.settings.reward_manager)
        self.solutions = manager(config=config, tokenizer=tokenizer, compute_score=compute_score, **router)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """`reward_score` and `reward_extra_info` of one rollout; a solution's extra values get `masa_correct`.

        Raises:
            UserError: if the value that says what is correct is not there.
        """
        if "is_meta" in data.non_tensor_batch and bool(data.non_tensor_batch["is_meta"][-1]):
            return {"reward_score": 0.0, "reward_extra_info": {}}
        result: dict[str, Any] = await self.solutions.run_single(data)
        extra = result.setdefault("reward_extra_info", {})
        name = self.settings.correctness
        if name is not None and name not in extra:
            raise UserError(
                f"data.masa.correctness is {name!r}, but the reward function gave only "
                f"{', '.join(sorted(extra)) or 'a score'}"
            )
        value = extra[name] if name is not None else extra.get("acc", result["reward_score"])
        extra[CORRECT] = float(float(value) >= self.settings.correct_threshold)
        return result


def compute_score(
    data_source: str,  # noqa: ARG001 - verl gives it by name
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, float]:
    """MASA's graders in the form of verl's `reward.custom_reward_function`.

    Args:
        data_source: not looked at.
        ground_truth: the gold answer.
        extra_info: may name the grader (`kind`: math, choice, literal, code, ...; default math) and hold what it
            needs, as in `masa.grading.grade_problems`.

    Returns:
        `score` and `acc`, 1.0 for a right answer, else 0.0.
    """
    fields = {name: value for name, value in (extra_info or {}).items() if value is not None}
    problem = Problem(0, "", str(ground_truth), str(fields.get("kind", "math")), extra=fields)
    correct = float(grade_problem(problem, solution_str).correct)
    return {"score": correct, "acc": correct}
