"""A domain of one's own: putting numbers in order, with a meta prompt in its own words.

The first word of the form `<domain>_notion` in the prompt names the JSON key of the notions. The bundled model can
spell no other than `math_notion`; larger ones can, so say `order_notion`. A model that was never taught the form
needs `warm_start=128` besides, which teaches it from the policy's own rollouts.
"""

import random

from masa import MASAConfig, MASATrainer
from masa.grading.reward import correctness_reward
from masa.tasks.dataset import load_problems, to_dataset
from masa.tiny import MODEL_PATH

META_PROMPT = """Foretell your own sorting: math_notion, pass_rate 0-8, solution_length {min_length}-{max_length}.
{problem}"""


def rows(size: int, seed: int = 0) -> list[dict[str, str]]:
    """Problems as rows; a file of JSON lines with these fields would do as well."""
    rng = random.Random(seed)
    found = []
    for _ in range(size):
        numbers = [rng.randint(1, 99) for _ in range(rng.randint(3, 9))]
        upwards = rng.random() < 0.5
        found.append(
            {
                "problem": f"sort {'up' if upwards else 'down'} {' '.join(map(str, numbers))}",
                "answer": " ".join(map(str, sorted(numbers, reverse=not upwards))),
                "kind": "literal",
            }
        )
    return found


def main(output: str = "runs/custom-domain", max_steps: int = 60) -> MASATrainer:
    """Train."""
    args = MASAConfig(
        output_dir=output,
        preset="masa-expert",
        meta_prompt=META_PROMPT,
        min_solution_length=8,
        problems_per_step=8,
        num_generations=8,
        max_steps=max_steps,
        max_completion_length=128,
        learning_rate=2e-4,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to="none",
    )
    problems = to_dataset(load_problems(rows(256)).problems)
    trainer = MASATrainer(str(MODEL_PATH), correctness_reward, args=args, train_dataset=problems)
    trainer.train()
    trainer.save_model(output)
    return trainer


if __name__ == "__main__":
    main()
