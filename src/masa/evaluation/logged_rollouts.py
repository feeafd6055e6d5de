"""Rollouts that a trainer has logged, read into columns and grouped by step and problem. No torch here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masa.awareness.groups import ZERO_VARIANCE_TOLERANCE
from masa.errors import UserError, nearest
from masa.runs.folder import CONFIG, METRICS, RunFolder
from masa.tasks.sources import Row, read_file

READABLE = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class LogColumns:
    """What the columns of a log are called."""

    problem: str = "problem"
    """Text, id or chat messages: what rollouts of one problem have in common."""
    correct: str = "correct"
    """Whether the rollout is right: a boolean, 0 or 1, or a reward."""
    length: str = "length"
    """Generated tokens."""
    step: str = "step"
    """Training step, a whole number."""
    reward: str | None = None
    """What must be equal for a group to have zero variance; by default the column `correct`."""


@dataclass(frozen=True, slots=True)
class LoggedRollouts:
    """Solution groups in the order of their steps; the rollouts of a group lie side by side.

    Groups of one rollout are left out: they have no variance whatever came of them.
    """

    source: str
    # One entry a rollout.
    correct: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    """Tokens."""
    # One entry a group.
    starts: NDArray[np.int64]
    """Each group's first rollout; one more entry holds the number of rollouts."""
    steps: NDArray[np.int64]
    problems: NDArray[np.int64]
    """Number of the problem, by first appearance in the log."""
    zero_variance: NDArray[np.bool_]
    """Whether the group's rewards are all equal, up to 1e-6."""
    # What is not in the groups.
    singles: int = 0
    """Groups of one rollout."""
    meta_rollouts: int = 0
    """Predictions in the log of a run of MASA."""
    gated: int = 0
    """Problems that the run's own gate kept from being rolled out."""
    cut: int = 0
    """Rollouts that the run's own cutoff ended."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rollouts of each group, [groups]."""
        return np.diff(self.starts)

    @property
    def right(self) -> NDArray[np.int64]:
        """Correct rollouts of each group, [groups]."""
        return np.add.reduceat(self.correct, self.starts[:-1], dtype=np.int64)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each group, [groups]."""
        return np.add.reduceat(self.lengths, self.starts[:-1])

    def by_step(self) -> Iterator[tuple[int, range]]:
        """Each step that has groups, in order, and the numbers of its groups."""
        edges = [0, *(np.flatnonzero(np.diff(self.steps)) + 1).tolist(), len(self.steps)]
        for first, end in pairwise(edges):
            yield int(self.steps[first]), range(first, end)


def read_log(path: str | Path, columns: LogColumns | None = None, *, correct_threshold: float = 0.99) -> LoggedRollouts:
    """Rollouts from a file (JSON lines, also gzipped, JSON or Parquet), a folder of such files, or a run folder.

    Args:
        path: rows of one rollout each; rows whose `role` is `meta` are counted and left out.
        columns: their names; for a run folder, zero variance is by default that of its column `reward`.
        correct_threshold: a value of the column `correct` of at least this is right.

    Raises:
        UserError: for anything that cannot be read, naming file, line and column.
    """
    path = Path(path).expanduser()
    files, is_run = _files(path)
    columns = columns or LogColumns()
    if is_run and columns.reward is None:
        columns = LogColumns(columns.problem, columns.correct, columns.length, columns.step, "reward")
    rows = _Rows(columns)
    for file in files:
        rows.read(file)
    return rows.grouped(str(path), correct_threshold)


def _files(path: Path) -> tuple[list[Path], bool]:
    """The files to read, and whether they are a run's of MASA."""
    if path.is_file():
        return [path], False
    if not path.is_dir():
        raise UserError(f"rollouts {path} do not exist: check the path")
    if (path / CONFIG).exists() or (path / METRICS).exists():
        run = RunFolder.open(path)
        found = [run.rollouts_path / f"step-{step}.jsonl.gz" for step in run.steps()]
        if not found:
            raise UserError(f"the run in {path} has left no rollouts (no {run.rollouts_path}/step-N.jsonl.gz)")
        return found, True
    found = sorted(file for file in path.iterdir() if file.name.casefold().endswith(READABLE))
    if not found:
        raise UserError(f"{path} holds neither a run nor files of rollouts ({', '.join(READABLE)})")
    return found, False


@dataclass(slots=True)
class _Rows:
    """Columns as they were read, not yet checked: checking whole columns costs a hundredth of checking rows."""

    names: LogColumns
    problems: list[int] = field(default_factory=list)
    correct: list[Any] = field(default_factory=list)
    rewards: list[Any] = field(default_factory=list)
    lengths: list[Any] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)
    files: list[tuple[int, Path]] = field(default_factory=list)
    """Each file, and how many rollouts were read before it."""
    numbers: dict[Any, int] = field(default_factory=dict)
    """Of the problems, by what names them."""
    meta: int = 0
    gated: set[tuple[str, str]] = field(default_factory=set)
    cut: int = 0

    def read(self, path: Path) -> None:
        """Take in the rollouts of one file.

        Raises:
            UserError: for a row that cannot be read or lacks a column.
        """
        self.files.append((len(self.problems), path))
        names = self.names
        used = [names.problem, names.correct, names.length, names.step, names.reward or names.correct]
        pick = itemgetter(*used)
        numbers = self.numbers
        for place, row in read_file(path, columns={*used, "role", "gated", "finish_reason"}):
            if isinstance(row, str):
                raise UserError(f"{place}: {row}; mend or remove it")
            if row.get("role") == "meta":
                self._count_meta(row)
                continue
            try:
                problem, correct, length, step, reward = pick(row)
            except KeyError as error:
                raise UserError(f"{place}: {self._missing(error.args[0], row)}") from None
            kind = type(problem)
            if kind is not str and kind is not int:
                problem = _named(problem, f"{place}: column {names.problem!r}")
            self.problems.append(numbers.setdefault(problem, len(numbers)))
            self.correct.append(correct)
            self.rewards.append(reward)
            self.lengths.append(length)
            self.steps.append(step)
            if row.get("finish_reason") == "cutoff":
                self.cut += 1

    def _count_meta(self, row: Row) -> None:
        self.meta += 1
        if row.get("gated") is True:
            self.gated.add((repr(row.get(self.names.step)), repr(row.get(self.names.problem))))

    def _missing(self, name: str, row: Row) -> str:
        option = next(f.name for f in fields(self.names) if getattr(self.names, f.name) == name)
        known = [key for key in row if isinstance(key, str)]
        guess = nearest(name, known)
        if guess is None:
            # Trainers speak of `completion_length` and `global_step`.
            guess = next((key for key in known if name.casefold() in key.casefold()), None)
        where = f"did you mean {guess!r}? " if guess else f"it has {', '.join(map(repr, known[:12])) or 'none'}; "
        remedy = f"name the column with --{option}-column"
        if option == "length":
            remedy += " (generated tokens, which a text does not tell: log them)"
        return f"no column {name!r}: {where}{remedy}"

    def grouped(self, source: str, threshold: float) -> LoggedRollouts:
        """Check the columns and sort the rollouts into groups.

        Raises:
            UserError: for a value of the wrong type or range, or if there is no group of several rollouts.
        """
        if not self.problems:
            more = f" ({self.meta} predictions)" if self.meta else ""
            raise UserError(f"{source}: holds no rollouts{more}: name a log with one line a rollout")
        names = self.names
        values = self._numbers(self.correct, names.correct, "a boolean, 0 or 1, or a reward")
        rewards = values if names.reward is None else self._numbers(self.rewards, names.reward, "a reward")
        lengths = self._whole(self.lengths, names.length, least=0)
        steps = self._whole(self.steps, names.step)
        problems = np.array(self.problems, dtype=np.int64)
        order = np.lexsort((problems, steps))
        steps, problems = steps[order], problems[order]
        edges = np.flatnonzero((np.diff(steps) != 0) | (np.diff(problems) != 0)) + 1
        starts = np.concatenate([[0], edges, [len(order)]])
        is_single = np.diff(starts) == 1
        if is_single.all():
            raise UserError(
                f"{source}: none of its {len(is_single)} groups has more than one rollout: rollouts are grouped by "
                f"{names.step!r} and {names.problem!r}, name other columns with --step-column or --problem-column"
            )
        kept = ~np.repeat(is_single, np.diff(starts))
        order, steps, problems = order[kept], steps[kept], problems[kept]
        starts = np.concatenate([[0], np.cumsum(np.diff(starts)[~is_single])])
        firsts, rewards = starts[:-1], rewards[order]
        spread = np.maximum.reduceat(rewards, firsts) - np.minimum.reduceat(rewards, firsts)
        return LoggedRollouts(
            source=source,
            correct=values[order] >= threshold,
            lengths=lengths[order],
            starts=starts,
            steps=steps[firsts],
            problems=problems[firsts],
            zero_variance=spread <= ZERO_VARIANCE_TOLERANCE,
            singles=int(is_single.sum()),
            meta_rollouts=self.meta,
            gated=len(self.gated),
            cut=self.cut,
        )

    def _numbers(self, values: list[Any], name: str, expected: str) -> NDArray[np.float64]:
        if set(map(type, values)) <= {bool, int, float}:
            try:
                found = np.array(values, dtype=np.float64)
            except OverflowError:
                found = np.full(1, np.inf)
            if np.isfinite(found).all():
                return found
        self._refuse(values, name, expected, _is_number)
        raise AssertionError("a value must have been refused")

    def _whole(self, values: list[Any], name: str, least: int | None = None) -> NDArray[np.int64]:
        expected = "a whole number" if least is None else f"a whole number of at least {least}"

        def is_good(value: Any) -> bool:
            return (
                _is_number(value)
                and not isinstance(value, bool)
                and value == int(value)
                and -(2**53) <= value <= 2**53
                and (least is None or value >= least)
            )

        # Every trainer writes whole numbers as such, or (through data frames) as floats.
        if set(map(type, values)) <= {int, float}:
            try:
                found = np.array(values, dtype=np.float64)
            except OverflowError:
                found = np.full(1, np.inf)
            if (
                np.isfinite(found).all()
                and (found == np.floor(found)).all()
                and (np.abs(found) <= 2**53).all()
                and (least is None or found.min() >= least)
            ):
                return found.astype(np.int64)
        self._refuse(values, name, expected, is_good)
        raise AssertionError("a value must have been refused")

    def _refuse(self, values: Sequence[Any], name: str, expected: str, is_good: Callable[[Any], bool]) -> None:
        """Name the first value that is no good."""
        index, value = next((index, value) for index, value in enumerate(values) if not is_good(value))
        shown = json.dumps(value, default=str)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise UserError(
            f"{self._place(index)}: column {name!r} is {shown}: it must be {expected}; mend or remove the row"
        )

    def _place(self, index: int) -> str:
        """Where a rollout stands: the file is read again, which costs nothing as long as logs are right."""
        before, path = [(first, path) for first, path in self.files if first <= index][-1]
        rollouts = (place for place, row in read_file(path) if not isinstance(row, str) and row.get("role") != "meta")
        return next(islice(rollouts, index - before, None))


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) and abs(value) < 1e300


def _named(problem: Any, where: str) -> Any:
    """Something hashable for what names a problem: chat messages count by their content."""
    if isinstance(problem, float) and problem.is_integer():
        return int(problem)
    if isinstance(problem, Sequence | Mapping) and not isinstance(problem, bytes) and len(problem):
        return json.dumps(problem, sort_keys=True, default=str)
    raise UserError(f"{where} is {json.dumps(problem, default=str)}: it must be a text, an id or chat messages")
