"""A run under way, as its files tell it: nothing is asked of the process that writes them, nothing is written."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.runs.folder import LEDGER, METRICS, RUN_KEY, RunFolder
from masa.runs.jsonlines import Row, decode_rows, number, read_rows

KEPT = (
    *("pass_rate", "reward/solution", "reward/meta", "groups/zero_variance_share", "length/mean", "epoch"),
    *("awareness/pass_rate_spearman", "awareness/length_spearman", "gate/share", "cutoff/share", "time/step"),
    *("tokens/generated", "tokens/saved_gate", "tokens/saved_cutoff"),
)
"""Metrics that are kept of every step, beside step and phase."""

_RECENT = 20
"""Steps whose pace foretells the rest."""
_SILENT_STEPS, _SILENT_SECONDS = 10, 60.0
"""Silence of so many steps, and of so many seconds, is no longer that of a run at work."""
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_SIGNS = ("config.yaml", METRICS, "evaluations.jsonl", LEDGER, "rollouts")
"""What a run touches while it works; a report may be written at any time."""


class State(StrEnum):
    """What a run is doing, as far as files can tell."""

    WAITING = "waiting"
    """It has not written a step yet."""
    RUNNING = "running"
    STOPPED = "stopped"
    """Silent, and its last step is saved: `--resume` goes on from there."""
    STALE = "stale"
    """Silent for far longer than its steps take: killed, hanging, or evaluating for long."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment."""

    path: Path
    state: State
    metrics: Sequence[Row]
    """One row a step: `step`, `phase` and what there is of `KEPT`, finite numbers alone."""
    evaluations: Sequence[Row]
    """In order of their steps."""
    settings: Mapping[str, Any]
    max_steps: int | None
    """None where nothing tells."""
    max_tokens: float | None
    max_minutes: float | None
    tokens: int
    """Generated for training so far."""
    seconds: float
    """Of work so far, evaluations included."""
    silent: float
    """Seconds since anything was written."""
    left: float | None
    """Estimated seconds of training steps to come, by the last steps' pace; None where nothing tells."""
    rollouts_step: int | None
    rollouts: Sequence[Row]
    """Of the last step that has a file."""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """A metric's values with their steps."""
        kept = [(row["step"], row[name]) for row in self.metrics if name in row]
        return [step for step, _ in kept], [value for _, value in kept]

    def evaluated(self, name: str) -> tuple[list[float], list[float]]:
        """An evaluation's values with their steps."""
        found = [(number(row.get("step")), number(row.get(name))) for row in self.evaluations]
        kept = [(step, value) for step, value in found if step is not None and value is not None]
        return [step for step, _ in kept], [value for _, value in kept]


class Watch:
    """Looks at a run again and again, reading only what is new.

    Raises:
        UserError: if the folder does not exist or holds no run.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._folder = RunFolder.open(path)
        self._metrics = _Tail(self._folder.metrics_path)
        self._config: tuple[int, dict[str, Any]] = (-1, {})
        self._rollouts: tuple[tuple[int, int] | None, list[Row]] = (None, [])

    def look(self, *, with_rollouts: bool = True) -> Snapshot:
        """The run as it is now.

        Raises:
            UserError: if the folder has gone, or a finished line in it is damaged.
        """
        folder = RunFolder.open(self._folder.path)
        metrics = self._metrics.read()
        settings, budget = self._settings()
        ledger = folder.read_ledger()
        parts = ledger.get("seconds")
        seconds = math.fsum(number(value) or 0.0 for value in (parts if isinstance(parts, dict) else {}).values())
        tokens = number(metrics[-1].get("tokens/generated")) if metrics else None
        tokens = tokens or number(ledger.get("generated_tokens")) or 0.0
        max_steps = _max_steps(settings, metrics)
        max_tokens, max_minutes = number(budget.get("max_tokens")), number(budget.get("max_minutes"))
        silent = max(0.0, time.time() - max(_touched(folder.path), default=0.0))
        state = _state(folder, metrics, silent, max_steps)
        left = None
        if state is State.RUNNING:
            left = _left(metrics, max_steps, max_tokens, tokens, max_minutes, seconds)
        step, rollouts = self._last_rollouts() if with_rollouts else (None, [])
        evaluations = [row for row in folder.read_evaluations() if number(row.get("step")) is not None]
        return Snapshot(
            path=folder.path,
            state=state,
            metrics=metrics,
            evaluations=sorted(evaluations, key=lambda row: number(row["step"]) or 0.0),
            settings=settings,
            max_steps=max_steps,
            max_tokens=max_tokens,
            max_minutes=max_minutes,
            tokens=int(tokens),
            seconds=seconds,
            silent=silent,
            left=left,
            rollouts_step=step,
            rollouts=rollouts,
        )

    def _settings(self) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The settings, and the budget that the run was given."""
        written = _modified(self._folder.config_path)
        if written is not None and written != self._config[0]:
            self._config = (written, self._folder.read_config())
        settings = dict(self._config[1])
        run = settings.pop(RUN_KEY, None)
        budget = run.get("budget") if isinstance(run, Mapping) else None
        return settings, budget if isinstance(budget, Mapping) else {}

    def _last_rollouts(self) -> tuple[int | None, list[Row]]:
        """Of the last step, read once; the step before where a rewind takes the file away meanwhile."""
        for step in reversed(self._folder.steps()[-2:]):
            written = _modified(self._folder.rollouts_path / f"step-{step}.jsonl.gz")
            if written is None:
                continue
            if self._rollouts[0] != (step, written):
                try:
                    self._rollouts = ((step, written), self._folder.read_rollouts(step))
                except UserError:
                    if _modified(self._folder.rollouts_path / f"step-{step}.jsonl.gz") is None:
                        continue
                    raise
            return step, self._rollouts[1]
        return None, []


class _Tail:
    """The rows of a growing file. It starts anew where the file was replaced or cut, as a rewind does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._restart(None)

    def _restart(self, inode: int | None) -> None:
        self._inode, self._offset = inode, 0
        self._rows: list[Row] = []

    def read(self) -> list[Row]:
        """All rows so far; a line without its end is not one yet."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._restart(status.st_ino)
                file.seek(self._offset)
                data = file.read()
                rows = self._parse(data)
                # A file system may give a new file the number of one that is gone.
                if rows and self._rows and rows[0]["step"] <= self._rows[-1]["step"]:
                    self._restart(status.st_ino)
                    file.seek(0)
                    data = file.read()
                    rows = self._parse(data)
        except FileNotFoundError:
            self._restart(None)
            return []
        self._offset += data.rfind(b"\n") + 1
        self._rows = self._rows + rows  # not in place: who looked before keeps what was seen
        return self._rows

    def _parse(self, data: bytes) -> list[Row]:
        whole = data[: data.rfind(b"\n") + 1]
        try:
            rows = decode_rows(whole, str(self._path))
        except UserError:
            read_rows(self._path)  # names the line as counted from the file's beginning
            raise
        return [kept for row in rows if (kept := _kept(row))]


def _kept(row: Row) -> Row:
    step = number(row.get("step"))
    if step is None:
        return {}
    found: Row = {"step": int(step)} | ({"phase": str(row["phase"])} if "phase" in row else {})
    return found | {name: value for name in KEPT if (value := number(row.get(name))) is not None}


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _touched(folder: Path) -> Iterator[float]:
    """When the run wrote what is in its folder."""
    names = [*_SIGNS, "model", *(entry.name for entry in folder.iterdir() if _CHECKPOINT.fullmatch(entry.name))]
    for name in names:
        if (written := _modified(folder / name)) is not None:
            yield written / 1e9


def _state(folder: RunFolder, metrics: Sequence[Row], silent: float, max_steps: int | None) -> State:
    last = _modified(folder.metrics_path) or 0
    model = folder.path / "model"
    saved = max((_modified(file) or 0 for file in model.iterdir()), default=0) if model.is_dir() else 0
    if saved and saved >= last:  # the model is saved after the last step, and after the last evaluation
        return State.FINISHED
    if not metrics:
        return State.WAITING
    pace = _pace(metrics) or 0.0
    if silent <= max(_SILENT_SECONDS, _SILENT_STEPS * pace):
        return State.RUNNING
    step = metrics[-1]["step"]
    if max_steps is not None and step >= max_steps:
        return State.FINISHED
    return State.STOPPED if (folder.path / f"checkpoint-{step}").is_dir() else State.STALE


def _max_steps(settings: Mapping[str, Any], metrics: Sequence[Row]) -> int | None:
    given = number(settings.get("max_steps"))
    if given is not None and given > 0:
        return int(given)
    epochs = number(settings.get("num_train_epochs"))
    if epochs and metrics and metrics[-1].get("epoch"):
        return math.ceil(float(metrics[-1]["step"]) * epochs / float(metrics[-1]["epoch"]))
    return None


def _pace(metrics: Sequence[Row]) -> float | None:
    """Mean seconds of the last steps."""
    seconds = [row["time/step"] for row in metrics[-_RECENT:] if "time/step" in row]
    return math.fsum(seconds) / len(seconds) if seconds else None


def _left(
    metrics: Sequence[Row],
    max_steps: int | None,
    max_tokens: float | None,
    tokens: float,
    max_minutes: float | None,
    seconds: float,
) -> float | None:
    """Seconds until the first of the limits is reached."""
    pace = _pace(metrics)
    left = []
    if max_minutes is not None:
        left.append(max_minutes * 60 - seconds)
    if pace is not None and max_steps is not None:
        left.append((max_steps - metrics[-1]["step"]) * pace)
    counts = [row["tokens/generated"] for row in metrics[-_RECENT:] if "tokens/generated" in row]
    if pace is not None and max_tokens is not None and len(counts) > 1 and counts[-1] > counts[0]:
        left.append((max_tokens - tokens) / ((counts[-1] - counts[0]) / (len(counts) - 1)) * pace)
    return max(0.0, min(left)) if left else None
