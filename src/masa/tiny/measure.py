"""What the bundled model is like: pass rates by task, level and habit, lengths, and predictions."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..awareness import awareness_summary, build_meta_prompt, parse_prediction
from ..records import FinishReason, Outcome, Prediction, Problem, Rollout
from ..rollout.engine import Engine
from ..rollout.requests import RequestMaker
from ..seeding import Purpose
from ..tasks.procedural import LEVELS, TASKS, bundled_mix, score
from .habits import Habit
from .predictions import MINIMUM_LENGTH

_OPENINGS = {"my guess": Habit.GUESS, "quick": Habit.SLOPPY, "hmm": Habit.RAMBLING}


def habit_of(solution: str) -> Habit:
    """The habit a solution is written in, told by its first words."""
    return next((habit for opening, habit in _OPENINGS.items() if solution.startswith(opening)), Habit.CAREFUL)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Solution and meta groups of some problems."""

    problems: Sequence[Problem]
    outcomes: Sequence[Outcome]
    predictions: Sequence[Sequence[Prediction]]
    meta_lengths: Sequence[int]
    """Tokens of each meta rollout."""

    def summary(self) -> dict[str, float]:
        """The numbers that the recipe is judged by; shares in 0..1, lengths in tokens."""
        rates = [outcome.pass_rate for outcome in self.outcomes]
        answers = list(self._answers())
        lengths = sorted(length for _, _, length, _ in answers)
        predictions = [prediction for group in self.predictions for prediction in group]
        awareness = awareness_summary(list(zip(self.predictions, self.outcomes, strict=True))).metrics(prefix="")
        row: dict[str, float] = {
            "pass rate": statistics.fmean(rates),
            "groups never right": statistics.fmean(rate == 0 for rate in rates),
            "groups always right": statistics.fmean(rate == 1 for rate in rates),
            "zero-variance groups": statistics.fmean(rate in (0, 1) for rate in rates),
            "mean solution length": statistics.fmean(lengths),
            "5 % of lengths below": lengths[len(lengths) // 20],
            "5 % of lengths above": lengths[-len(lengths) // 20],
            "mean length if correct": _mean(length for _, _, length, correct in answers if correct),
            "mean length if wrong": _mean(length for _, _, length, correct in answers if not correct),
            "truncated": _mean(
                reason is FinishReason.LENGTH for outcome in self.outcomes for reason in outcome.finish_reasons
            ),
            "mean meta length": statistics.fmean(self.meta_lengths),
            "meta length / solution length": statistics.fmean(self.meta_lengths) / statistics.fmean(lengths),
            "valid predictions": statistics.fmean(prediction.is_valid for prediction in predictions),
        }
        for habit in Habit:
            mine = [correct for _, text, _, correct in answers if habit_of(text) is habit]
            row[f"share of {habit}"] = len(mine) / len(answers)
            row[f"pass rate of {habit}"] = _mean(mine)
        return row | {name: value for name, value in awareness.items() if "spearman" in name and value is not None}

    def table(self, habit: Habit | None = None) -> str:
        """Pass rates in percent, a row a task and a column a level; of one habit alone if named."""
        cells: dict[str, list[bool]] = defaultdict(list)
        for problem, text, _, correct in self._answers():
            if habit is None or habit_of(text) is habit:
                cells[problem.task].append(correct)
        lines = ["| task | " + " | ".join(map(str, LEVELS)) + " |", "| --- |" + " --- |" * len(LEVELS)]
        for task in TASKS:
            values = [cells.get(f"{task}/{level}") for level in LEVELS]
            lines.append(
                f"| {task} | " + " | ".join(f"{100 * _mean(value):.0f}" if value else "-" for value in values) + " |"
            )
        return "\n".join(lines)

    def _answers(self) -> Iterable[tuple[Problem, str, int, bool]]:
        for problem, outcome in zip(self.problems, self.outcomes, strict=True):
            for text, length, correct in zip(outcome.texts, outcome.lengths, outcome.correct, strict=True):
                yield problem, text, length, correct


def measure(
    engine: Engine,
    tokenizer: Any,
    problems: Sequence[Problem] | None = None,
    *,
    group_size: int = 8,
    max_tokens: int = 192,
    seed: int = 0,
) -> Measurement:
    """Sample solutions and predictions at temperature 1.

    Args:
        problems: by default 450 held-out problems of the bundled mix, ten of each task and level.
        max_tokens: limit of a solution; a prediction gets 48.
    """
    problems = bundled_mix(450, seed, "heldout") if problems is None else problems
    maker = RequestMaker(seed=seed, max_tokens=max_tokens, max_meta_tokens=48)
    requests = []
    for problem in problems:
        meta = build_meta_prompt(problem.text, "brief", min_length=MINIMUM_LENGTH, max_length=max_tokens)
        ids, meta_ids = _prompt_ids(tokenizer, problem.text), _prompt_ids(tokenizer, meta)
        requests += maker.solutions([ids] * group_size, problem.key, purpose=Purpose.EVALUATION)
        requests += maker.metas(meta_ids, group_size, problem.key)
    rollouts = engine.generate(requests)
    outcomes, predictions = [], []
    metas: list[Rollout] = []
    for place, problem in enumerate(problems):
        group = rollouts[2 * place * group_size : (2 * place + 1) * group_size]
        meta_group = rollouts[(2 * place + 1) * group_size : (2 * place + 2) * group_size]
        texts = _decode(tokenizer, group)
        outcomes.append(
            Outcome(
                texts=tuple(texts),
                lengths=tuple(rollout.length for rollout in group),
                correct=tuple("\\boxed{" in text and score(problem, text) for text in texts),
                finish_reasons=tuple(rollout.finish_reason for rollout in group),
            )
        )
        predictions.append(
            [
                parse_prediction(text, max_length=max_tokens, min_length=MINIMUM_LENGTH)
                for text in _decode(tokenizer, meta_group)
            ]
        )
        metas += meta_group
    return Measurement(problems, outcomes, predictions, [rollout.length for rollout in metas])


def report(measurement: Measurement) -> str:
    """The measurement as Markdown."""
    rows = [f"| {name} | {value:.3g} |" for name, value in measurement.summary().items()]
    return "\n".join(
        [
            "| | |",
            "| --- | --- |",
            *rows,
            "",
            "Pass rate in percent by task and level:",
            "",
            measurement.table(),
            "",
            "Of careful solutions alone:",
            "",
            measurement.table(Habit.CAREFUL),
            "",
        ]
    )


def write_readme(folder: Path, measurement: Measurement) -> None:
    """Describe the model in `folder` by what was measured of it."""
    text = (
        "# The bundled model\n\n"
        "A Qwen3-architecture model of 0.64 M parameters with a chat template, pre-trained from scratch on generated\n"
        "solutions of five reasoning-gym tasks in mixed habits (careful steps, guesses, sloppy steps, rambling), and\n"
        "on predictions that know nothing. Levels 7 to 9 are never shown how to solve.\n\n"
        "The stages of `masa tiny build` (`masa.tiny.recipe`) made it in one go, in 56 minutes on one shared core;\n"
        "the length of the first, whose rate is constant, was settled while it ran. Floating point differs between\n"
        "machines, so that a build elsewhere differs in detail.\n\n"
        f"Measured by `python -m masa.tiny.measure` on {len(measurement.problems)} held-out problems of the bundled\n"
        "mix, in groups of 8 at temperature 1:\n\n"
    )
    (folder / "README.md").write_text(text + report(measurement), encoding="utf-8")


def _prompt_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return tuple(ids)


def _decode(tokenizer: Any, rollouts: Sequence[Rollout]) -> list[str]:
    ids = [list(rollout.token_ids) for rollout in rollouts]
    texts: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return statistics.fmean(values) if values else 0.0


def main() -> None:
    """Measure a model of the recipe and print the report: `python -m masa.tiny.measure [FOLDER] [--write]`."""
    import argparse

    from ..rollout.local import LocalEngine
    from . import MODEL_PATH, load

    parser = argparse.ArgumentParser(prog="python -m masa.tiny.measure", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=MODEL_PATH)
    parser.add_argument("--write", action="store_true", help="write the report to the folder's README.md")
    arguments = parser.parse_args()
    model, tokenizer = load(arguments.folder)
    measurement = measure(LocalEngine(model, tokenizer), tokenizer)
    if arguments.write:
        write_readme(arguments.folder, measurement)
    print(report(measurement))


if __name__ == "__main__":
    main()
