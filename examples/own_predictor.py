"""A predictor of one's own in 30 lines: what came of a problem's last group will come of the next one."""

from collections.abc import Mapping, Sequence
from typing import Any

from masa import MASAConfig, MASATrainer
from masa.awareness import PREDICTORS, Beta, Estimate, Evidence, Observation, Predictor
from masa.grading.reward import correctness_reward
from masa.tasks.dataset import load_problems, to_dataset
from masa.tiny import MODEL_PATH


class LastGroup(Predictor):
    """Beta(1/2 + right, 1/2 + wrong) of the problem's last group; abstains from what it has not seen."""

    name = "last-group"

    def __init__(self) -> None:
        self._groups: dict[int, tuple[int, int]] = {}

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief about one problem."""
        if evidence.problem.key not in self._groups:
            return Estimate()
        right, wrong = self._groups[evidence.problem.key]
        belief = Beta(0.5 + right, 0.5 + wrong)
        return Estimate(belief.mean, belief.deviation, valid=right + wrong, abstains=False, belief=belief)

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Learn from a step's problems that were rolled out."""
        for observation in observations:
            right = sum(observation.outcome.correct)
            self._groups[observation.evidence.problem.key] = (right, len(observation.outcome.correct) - right)

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint."""
        return {"groups": [[key, *counts] for key, counts in self._groups.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Comes from the checkpoint."""
        self._groups = {key: (right, wrong) for key, right, wrong in state["groups"]}


PREDICTORS[LastGroup.name] = LastGroup  # before the config is made


def main(output: str = "runs/own-predictor", max_steps: int = 60) -> None:
    """Train."""
    args = MASAConfig(
        output_dir=output,
        preset="grpo",
        gate="last-group",
        gate_threshold=0.7,
        parallel_steps=0,
        problems_per_step=8,
        num_generations=8,
        max_steps=max_steps,
        max_completion_length=128,
        learning_rate=2e-4,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
    )
    problems = to_dataset(load_problems("bundled", size=48).problems)  # few, so that they come back
    trainer = MASATrainer(str(MODEL_PATH), correctness_reward, args=args, train_dataset=problems)
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main()
