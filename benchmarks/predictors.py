"""Predictors held against each other on one run: what each foretold of every problem, and what came of it.

    python benchmarks/predictors.py [--preset masa] [--steps 70] [--every 10] [--learning-rate 4e-4] [--seed 0] [--json]

A plain `grpo` run on the study's problems, in which nothing is gated, or a `masa` run, which makes predictions; all
predictors learn from the same groups of its steps. Every so many steps the policy rolls out every training problem
once more, for no one to learn from, and each predictor's belief, formed before, is judged: how well it ranks problems
by whether their group is flat (AUC) and how well calibrated it is (log loss in nats), what gates at several
thresholds make of it, each beside the best gate that skips as many and knows every pass rate, and how many of the
best eighth of the problems are live.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from masa import models
from masa.awareness import CalibratedRule, Estimate, Evidence, Observation, Predictor, classify, make_predictor
from masa.evaluation.known_rates import knowing_gate
from masa.grading.reward import correctness_reward
from masa.tasks.dataset import load_problems, to_dataset
from masa.training.config import MASAConfig
from masa.training.trainer import MASATrainer

TASKS = ("chain_sum", "products", "gcd")
PREDICTORS = {
    "grpo": ("history", "posterior", "hidden-state", "stacked"),
    "masa": ("self", "combined", "posterior", "hidden-state", "stacked"),
}
THRESHOLDS = (0.9, 0.7, 0.5)
"""Probabilities of a flat group above which a gate skips."""
_SAMPLE = 1_000_000
"""Added to the step in the seeds of rollouts that only judge, so that they are not those of the step."""

Array = NDArray[np.float64]


class Watchers(Predictor):
    """Several predictors that all see what a run sees; advises nothing itself."""

    name = "watchers"
    uses_hidden = True

    def __init__(self, watchers: dict[str, Predictor]) -> None:
        self.watchers = watchers

    def estimate(self, evidence: Evidence) -> Estimate:  # noqa: ARG002
        """Nothing."""
        return Estimate()

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Lets each learn."""
        for watcher in self.watchers.values():
            watcher.observe(step, observations)


@dataclass
class Judged:
    """Foretold and true flatness of all problems at several steps, in turn."""

    foretold: list[float] = field(default_factory=list)
    flat: list[bool] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    chosen_live: list[float] = field(default_factory=list)

    def beliefs(self) -> dict[str, float]:
        """The figures over all steps judged."""
        foretold, flat = np.clip(np.array(self.foretold), 1e-4, 1 - 1e-4), np.array(self.flat)
        base = float(flat.mean())
        return {
            "AUC": auc(foretold, flat),
            "log loss": float(-np.log(np.where(flat, foretold, 1 - foretold)).mean()),
            "of the base rate": float(-(base * np.log(base) + (1 - base) * np.log(1 - base))),
            "base rate": base,
            "best eighth live": float(np.mean(self.chosen_live)),
        }

    def gate(self, threshold: float, size: int) -> dict[str, float | None]:
        """What a gate makes of the beliefs."""
        skips = [foretold > threshold for foretold in self.foretold]
        found = classify(skips, self.flat)
        best = knowing_gate(self.right, [size] * len(skips), size, float(np.mean(skips)))
        return {
            "skipped": float(np.mean(skips)),
            "precision": found.precision,
            "at best": best.precision,
            "recall": found.recall,
            "at best ": best.recall,
        }


class Judge(TrainerCallback):  # type: ignore[misc]
    """Has every problem rolled out every so many steps and notes what was foretold of it."""

    def __init__(self, trainer: MASATrainer, watchers: Watchers, every: int) -> None:
        self.trainer, self.watchers, self.every = trainer, watchers, every
        self.judged = {name: Judged() for name in watchers.watchers}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Judges."""
        step = int(state.global_step)
        if step % self.every:
            return
        maker = self.trainer.experience
        groups = [maker.group(key) for key in range(len(maker.problems))]
        with self.trainer.threads():
            maker.sample(groups, _SAMPLE + step)
        flat = [not group.solution.is_live for group in groups]
        for name, watcher in self.watchers.watchers.items():
            found = [watcher.estimate(group.evidence) for group in groups]
            rule = CalibratedRule(group_size=groups[0].size)
            foretold = [rule.certainty(estimate)[0] if estimate.beta else 0.5 for estimate in found]
            judged = self.judged[name]
            judged.foretold += foretold
            judged.flat += flat
            judged.right += [sum(ok is True for ok in group.solution.correct) for group in groups]
            chosen = np.argsort(foretold, kind="stable")[: len(groups) // 8]
            judged.chosen_live.append(float(np.mean([not flat[i] for i in chosen])))


def auc(foretold: Array, flat: NDArray[np.bool_]) -> float:
    """Chance that a flat group was foretold flat more surely than a live one, ties counted half."""
    _, place, counts = np.unique(foretold, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    some = int(flat.sum())
    return float((ranks[flat].sum() - some * (some + 1) / 2) / (some * (len(flat) - some)))


def main() -> None:
    """Trains, judges, prints."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--preset", choices=list(PREDICTORS), default="grpo")
    options.add_argument("--steps", type=int, default=70)
    options.add_argument("--every", type=int, default=10)
    options.add_argument("--learning-rate", type=float, default=4e-4)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    problems = load_problems("bundled", size=384, config={"tasks": list(TASKS)}).problems
    path = models.resolve("bundled")
    with tempfile.TemporaryDirectory() as folder:
        args = MASAConfig(
            output_dir=folder,
            preset=given.preset,
            seed=given.seed,
            max_steps=given.steps,
            learning_rate=given.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            max_grad_norm=1.0,
            weight_decay=0.0,
            problems_per_step=8,
            num_generations=8,
            micro_batch_rows=64,
            max_completion_length=192,
            max_meta_length=64,
            min_solution_length=8,
            meta_prompt="brief",
            save_strategy="no",
            report_to="none",
            gradient_checkpointing=False,
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = MASATrainer(
            AutoModelForCausalLM.from_pretrained(path),
            reward_funcs=correctness_reward,
            args=args,
            train_dataset=to_dataset(problems),
            processing_class=AutoTokenizer.from_pretrained(path),
        )
        trainer.remove_callback(PrinterCallback)
        watchers = Watchers({name: make_predictor(name) for name in PREDICTORS[given.preset]})
        trainer.experience.advisers.predictor = watchers
        judge = Judge(trainer, watchers, given.every)
        trainer.add_callback(judge)
        trainer.train()
    beliefs = {name: judged.beliefs() for name, judged in judge.judged.items()}
    gates = {
        f"{name} at {threshold}": judged.gate(threshold, 8)
        for name, judged in judge.judged.items()
        for threshold in THRESHOLDS
    }
    if given.json:
        print(json.dumps({"beliefs": beliefs, "gates": gates}))
    else:
        show(beliefs)
        show(gates)


def show(rows: Mapping[str, Mapping[str, float | None]]) -> None:
    """A table."""
    made = Table("", *next(iter(rows.values())))
    for name, row in rows.items():
        made.add_row(name, *("-" if value is None else f"{value:.3f}" for value in row.values()))
    Console(width=160).print(made)


if __name__ == "__main__":
    main()
