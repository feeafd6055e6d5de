"""What a report is made of: a run folder's files, read leniently. Whatever is absent is left out of the page."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.runs import RUN_KEY, RunFolder
from masa.runs.jsonlines import number as number

Row = dict[str, Any]
Series = tuple[list[float], list[float]]
"""Steps and values."""
Point = tuple[float | None, float | None, float | None, float | None]
"""Of one problem: predicted pass rate, true pass rate, predicted length, mean correct length (tokens)."""

_STEP_FILES = 8
"""Step files that are read for predictions and truths where no held-out evaluation has them."""


@dataclass(frozen=True)
class RunData:
    """One run, as its folder tells it."""

    name: str
    settings: Mapping[str, Any]
    run: Mapping[str, Any]
    """Versions and seeds."""
    metrics: Sequence[Row]
    evaluations: Sequence[Row]
    ledger: Mapping[str, Any]
    rollouts: Sequence[Row]
    """Of the last step that has a file."""
    recent_points: Sequence[Point]
    """Predictions and truths of the last steps' problems."""
    folder: RunFolder

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunData:
        """Reads a run folder.

        Raises:
            UserError: if there is no run or a file is damaged.
        """
        folder = RunFolder.open(path)
        config = folder.read_config()
        run = config.pop(RUN_KEY, None)
        recent = [folder.read_rollouts(step) for step in folder.steps()[-_STEP_FILES:]]
        return cls(
            name=folder.path.resolve().name,
            settings=config,
            run=run if isinstance(run, Mapping) else {},
            metrics=folder.read_metrics(),
            evaluations=sorted(folder.read_evaluations(), key=lambda row: number(row.get("step")) or 0),
            ledger=folder.read_ledger(),
            rollouts=recent[-1] if recent else [],
            recent_points=[point for rows in recent for point in _points_of_rollouts(rows)],
            folder=folder,
        )

    def newest_rollouts(self) -> Iterator[tuple[int, list[Row]]]:
        """Every step that has a file of rollouts, newest first, read as it is asked for.

        Raises:
            UserError: if a file is damaged.
        """
        for step in reversed(self.folder.steps()):
            yield step, self.folder.read_rollouts(step)

    def series(self, name: str) -> Series:
        """A metric's finite values by step; empty where the run never wrote it."""
        steps, values = [], []
        for row in self.metrics:
            step = number(row.get("step"))
            value = number(row.get(name))
            if step is not None and value is not None:
                steps.append(step)
                values.append(value)
        return steps, values

    def has(self, *names: str) -> bool:
        """Whether any of the metrics was written at least once."""
        return any(self.series(name)[0] for name in names)

    @property
    def steps(self) -> int:
        """Steps with metrics."""
        return len(self.metrics)

    @property
    def predictive_from(self) -> float | None:
        """The step at which the predictive phase began, if it did."""
        starts = (number(row.get("step")) for row in self.metrics if row.get("phase") == "predictive")
        return next((step for step in starts if step is not None), None)

    def evaluated(self, name: str) -> Series:
        """An evaluation's number (`pass_at_1`, `awareness/brier`, ...) by step."""
        found = [(number(row.get("step")), evaluation_number(row, name)) for row in self.main_evaluations]
        kept = [(step, value) for step, value in found if step is not None and value is not None]
        return [step for step, _ in kept], [value for _, value in kept]

    @property
    def main_evaluations(self) -> list[Row]:
        """Evaluations of the first set that was evaluated: later ones may be of other problems."""
        name = self.evaluations[0].get("name") if self.evaluations else None
        return [row for row in self.evaluations if row.get("name") == name]

    @property
    def first_and_last_points(self) -> tuple[list[Point], list[Point]]:
        """Predictions and truths before and after, on held-out problems; else only the last training steps'."""
        pointed = [points for row in self.main_evaluations if (points := _points(row.get("points")))]
        if len(pointed) > 1:
            return pointed[0], pointed[-1]
        return ([], pointed[0]) if pointed else ([], list(self.recent_points))

    @property
    def points_are_held_out(self) -> bool:
        """Where `first_and_last_points` come from."""
        return any(_points(row.get("points")) for row in self.main_evaluations)

    def total(self, name: str) -> float | None:
        """A total of the ledger."""
        return number(self.ledger.get(name))


def evaluation_number(row: Mapping[str, Any], name: str) -> float | None:
    """A number of an evaluation, whether or not it is written with its namespace."""
    names = (name, name.rpartition("/")[2])
    return next((value for key in names if (value := number(row.get(key))) is not None), None)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to `window` values, centred, shorter at the ends."""
    half = window // 2
    return [
        math.fsum(values[max(0, i - half) : i + half + 1]) / len(values[max(0, i - half) : i + half + 1])
        for i in range(len(values))
    ]


def _points(value: Any) -> list[Point]:
    if not isinstance(value, list):
        return []
    padded = [[*(number(item) for item in row[:4]), None, None, None, None] for row in value if isinstance(row, list)]
    return [(row[0], row[1], row[2], row[3]) for row in padded]


def _points_of_rollouts(rows: Sequence[Row]) -> list[Point]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[str(row.get("problem"))].append(row)
    points = []
    for group in groups.values():
        solved = [row for row in group if row.get("role") == "solution" and isinstance(row.get("correct"), bool)]
        said = [row["prediction"] for row in group if isinstance(row.get("prediction"), Mapping)]
        if solved and said:
            lengths = [row.get("length") for row in solved if row["correct"] and row.get("finish_reason") == "stop"]
            points.append(
                (
                    _mean([prediction.get("pass_rate") for prediction in said]),
                    _mean([float(row["correct"]) for row in solved]),
                    _mean([prediction.get("length") for prediction in said]),
                    _mean(lengths),
                )
            )
    return points


def _mean(values: Sequence[Any]) -> float | None:
    finite = [value for value in map(number, values) if value is not None]
    return math.fsum(finite) / len(finite) if finite else None
