"""GRPO on sums of three numbers, with the small model that comes with MASA."""

import random

from datasets import Dataset

from masa import MASAConfig as GRPOConfig, MASATrainer as GRPOTrainer
from masa.tiny import MODEL_PATH


def sums(size: int, seed: int = 0) -> Dataset:
    """Problems as chat messages, and their answers."""
    rng = random.Random(seed)
    terms = [[rng.randint(1, 60) for _ in range(3)] for _ in range(size)]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": " + ".join(map(str, row))}] for row in terms],
            "answer": [str(sum(row)) for row in terms],
        }
    )


def correct(completions: list, answer: list[str], **_: object) -> list[float]:
    """1 for the right answer in a box, else 0."""
    texts = [completion[-1]["content"] for completion in completions]
    return [float(f"\\boxed{{{gold}}}" in text) for text, gold in zip(texts, answer, strict=True)]


def main(output: str = "runs/trl-script", max_steps: int = 60) -> None:
    """Train."""
    args = GRPOConfig(
        output_dir=output,
        preset="masa-plus",
        max_steps=max_steps,
        num_generations=8,
        per_device_train_batch_size=64,
        max_completion_length=128,
        learning_rate=2e-4,
        gradient_checkpointing=False,
        bf16=False,
        save_strategy="no",
        report_to="none",
    )
    trainer = GRPOTrainer(model=str(MODEL_PATH), reward_funcs=correct, args=args, train_dataset=sums(256))
    trainer.train()
    trainer.save_model(output)


if __name__ == "__main__":
    main()
