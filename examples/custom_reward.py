"""A reward of one's own: right answers, and among right ones the shorter the better.

The method must know which rollouts are *correct*: pass rates, lengths and notions are all about these. With several
reward functions name the one that says so.
"""

from typing import Any

from masa import MASAConfig, MASATrainer, grade
from masa.tasks.dataset import load_problems, to_dataset
from masa.tiny import MODEL_PATH


def right(completions: list[Any], answer: list[str], kind: list[str], **_: Any) -> list[float | None]:
    """1 for a right answer, 0 for a wrong one; None leaves a rollout ungraded."""
    texts = [completion[-1]["content"] for completion in completions]
    return [float(grade(text, gold, k).correct) for text, gold, k in zip(texts, answer, kind, strict=True)]


def brief(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """From 1 for an empty answer down to 0 for 128 tokens."""
    return [max(0.0, 1 - len(ids) / 128) for ids in completion_ids]


def main(output: str = "runs/custom-reward", max_steps: int = 60) -> None:
    """Train."""
    args = MASAConfig(
        output_dir=output,
        preset="masa",
        correctness="right",
        reward_weights=[1.0, 0.2],
        problems_per_step=8,
        num_generations=8,
        max_steps=max_steps,
        max_completion_length=128,
        meta_prompt="brief",
        min_solution_length=8,
        learning_rate=2e-4,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
    )
    problems = to_dataset(load_problems("bundled", size=256).problems)
    trainer = MASATrainer(str(MODEL_PATH), [right, brief], args=args, train_dataset=problems)
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main()
