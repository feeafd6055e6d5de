"""A whole training step: MASATrainer(preset="grpo") against TRL's GRPOTrainer, in one run.

    python benchmarks/step.py [--case bundled|smollm2] [--bf16] [--lora] [--steps 6] [--threads 1] [--json]

First both learn from the same rollouts: their losses and gradients are compared, TRL's fastest micro-batch size is
looked for, and the update alone is timed. Then both train in earnest, one step each in turn, on the same problems in
the same order; rollouts end where the policy ends them. A step lasts from its first micro-batch to the next step's
first: generation, scoring, update, optimizer, logs. The first step of each is left out, and the ratio is taken pair by
pair, since a shared machine changes speed; CPU seconds, which do not count the time others have the core, tell how far
they disturbed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rollout_report import add_to_results, machine
from same_rollouts import ratio, update_on_same_rollouts
from step_table import table
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from transformers.utils import logging as transformers_logging
from trl import GRPOConfig, GRPOTrainer
from turns import PARTS, StepClock, Turns

from masa import models
from masa.cli.job import read_job
from masa.grading.reward import correctness_reward
from masa.tasks.dataset import load_problems, to_dataset
from masa.training.config import MASAConfig
from masa.training.trainer import MASATrainer

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained on what; both trainers get all of it."""

    model_path: str
    dataset: Any
    problems: int
    group: int
    max_tokens: int
    temperature: float


def bundled(options: argparse.Namespace) -> Case:
    """The bundled model on its own mix, with the default run's batch."""
    problems = load_problems("bundled", size=256).problems
    return Case(models.resolve("bundled"), to_dataset(problems), options.problems or 8, options.group, 192, 1.0)


def smollm2(options: argparse.Namespace) -> Case:
    """SmolLM2 on the problems, prompt and sampling of configs/smollm2.yaml."""
    job = read_job(CONFIGS / "smollm2.yaml", {}, [])
    found = [
        problem
        for source in job.data
        for problem in load_problems(source.source, size=source.size, config=source.config).problems
    ]
    # Problems of all three kinds in every step, whatever their order in the file.
    mixed = [problem for start in range(32) for problem in found[start::32]]
    prompted = [replace(problem, text=job.prompt.format(problem=problem.text)) for problem in mixed]
    return Case(
        models.resolve(job.model),
        to_dataset(prompted, system=job.system),
        options.problems or 4,
        options.group,
        job.args.max_completion_length or 0,
        job.args.temperature,
    )


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {"bundled": bundled, "smollm2": smollm2}


class Trainers:
    """Makes trainers of both kinds that differ in nothing but their kind."""

    def __init__(self, case: Case, options: argparse.Namespace, folder: Path) -> None:
        self.case = case
        self.options = options
        self.folder = folder
        self.rows = case.problems * case.group

    def ours(self, **changed: Any) -> MASATrainer:
        args = MASAConfig(
            preset="grpo",
            problems_per_step=self.case.problems,
            micro_batch_rows=self.rows,
            loss_denominator="all",
            num_threads=self.options.threads,
            **self._common("ours") | changed,
        )
        return MASATrainer(args=args, **self._arguments())

    def trl(self, micro_batch: int) -> GRPOTrainer:
        args = GRPOConfig(
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=self.rows // micro_batch,
            epsilon_high=0.28,
            **self._common("trl"),
        )
        return GRPOTrainer(args=args, **self._arguments())

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "output_dir": str(self.folder / name),
            "num_generations": self.case.group,
            "max_completion_length": self.case.max_tokens,
            "temperature": self.case.temperature,
            "max_steps": self.options.steps + 1,
            "shuffle_dataset": False,
            "seed": self.options.seed,
            # TRL's default; small enough for both policies to stay the same, and so the lengths of their rollouts.
            "learning_rate": 1e-6,
            "lr_scheduler_type": "constant",
            "bf16": self.options.bf16,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 1,
            "use_cpu": True,
            "disable_tqdm": True,
        }

    def _arguments(self) -> dict[str, Any]:
        lora = None
        if self.options.lora:
            from peft import LoraConfig

            lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        return {
            "model": AutoModelForCausalLM.from_pretrained(self.case.model_path, dtype=torch.float32),
            "reward_funcs": correctness_reward,
            "train_dataset": self.case.dataset,
            "processing_class": AutoTokenizer.from_pretrained(self.case.model_path),
            "peft_config": lora,
        }


def whole_steps(trainers: Trainers, micro_batch: int) -> dict[str, Any]:
    """Both trainers train, a step each in turn."""
    both: dict[str, Any] = {"trl": trainers.trl(micro_batch), "ours": trainers.ours()}
    turns = Turns(list(both))
    clocks = {name: StepClock(name, turns) for name in both}
    clocks["trl"].watch(both["trl"], "_generate_single_turn", "generate")
    clocks["trl"].watch(both["trl"], "_generate_and_score_completions", "score")
    clocks["ours"].watch(both["ours"].engine, "generate", "generate")
    clocks["ours"].watch(both["ours"].experience, "make", "score")

    def train(name: str) -> None:
        try:
            turns.take(name)
            torch.set_num_threads(trainers.options.threads)
            both[name].train()
            turns.pass_on(name, leaving=True)
        except BaseException as error:
            turns.fail(error)

    for name, trainer in both.items():
        trainer.add_callback(clocks[name])
        trainer.remove_callback(PrinterCallback)
    threads = [threading.Thread(target=train, args=(name,)) for name in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if turns.failed:
        raise turns.failed
    steps = {name: clock.steps[1:] for name, clock in clocks.items()}
    tokens = {name: mean_length(trainer) for name, trainer in both.items()}
    return {
        "seconds": {
            name: {part: statistics.median(step[part] for step in rows) for part in (*PARTS, "step", "cpu")}
            for name, rows in steps.items()
        },
        "tokens": tokens,
        "seconds_per_1000_tokens": {
            name: 1000 * statistics.mean(step["step"] for step in rows) / (tokens[name] * trainers.rows)
            for name, rows in steps.items()
        },
        "ratio": ratio(*([step["step"] for step in steps[name]] for name in ("trl", "ours"))),
        "ratio_parts": {
            part: ratio(*([step[part] for step in steps[name]] for name in ("trl", "ours")))["median"]
            for part in ("generate", "update", "cpu")
        },
        "steps": steps,
    }


def mean_length(trainer: Any) -> float:
    """Mean tokens of a rollout over the steps that were timed."""
    logged = [row["completions/mean_length"] for row in trainer.state.log_history if "completions/mean_length" in row]
    return statistics.mean(logged[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, default="bundled")
    parser.add_argument("--problems", type=int, default=None, help="problems a step; default 8 (bundled), 4 (smollm2)")
    parser.add_argument("--group", type=int, default=8, help="rollouts a problem; 8 is TRL's default")
    parser.add_argument("--steps", type=int, default=6, help="pairs of steps timed, after one of warm-up")
    parser.add_argument("--repeats", type=int, default=3, help="updates timed on the same rollouts")
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[64, 32, 16, 8, 4], help="rows, tried for TRL")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--lora", action="store_true", help="train adapters alone")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    parser.add_argument("--results", type=Path, help="folder to write a dated Markdown file into")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    case = CASES[options.case](options)
    with tempfile.TemporaryDirectory() as folder:
        trainers = Trainers(case, options, Path(folder))
        same = update_on_same_rollouts(trainers, options)
        print(f"  same rollouts: {same}", file=sys.stderr)
        steps = whole_steps(trainers, same["micro_batch"])
    result = {
        "case": options.case,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": machine(options.threads),
        "precision": "bfloat16 autocast" if options.bf16 else "float32",
        "parameters": "adapters (LoRA, r = 16)" if options.lora else "all weights",
        "batch": f"{case.problems} problems x {case.group} rollouts of at most {case.max_tokens} tokens, "
        f"temperature {case.temperature:g}",
        "pairs": options.steps,
        "same_rollouts": same,
        "steps": steps,
    }
    print(json.dumps(result) if options.json else table(result))
    if options.results is not None:
        print(
            f"written: {add_to_results(table(result), options.results, 'step', 'A whole training step')}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
