"""`masa watch`: a run in the terminal, followed by its files from another shell."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from masa.cli.progress import clock, figures
from masa.cli.tables import printable, table, wide_console
from masa.cli.watch_charts import HEIGHT, WIDTH, charts
from masa.errors import UserError
from masa.runs.excerpts import Excerpt, excerpts
from masa.runs.folder import CONFIG, METRICS
from masa.runs.jsonlines import Row, number, plain, without_nonfinite
from masa.runs.watching import Snapshot, State, Watch

_PROBLEMS, _SOLUTIONS = 2, 2
_COLORS = {
    State.WAITING: "yellow",
    State.RUNNING: "green",
    State.STOPPED: "yellow",
    State.STALE: "red",
    State.FINISHED: "blue",
}
_SEED = re.compile(r"-(\d+)$")


class _Watched(Protocol):
    """What is watched: a run, or the runs of a comparison."""

    def look(self) -> None:
        """Read what is new."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is to come."""
        ...

    def lines(self) -> list[str]:
        """What it is at, a line a run."""
        ...

    def frame(self, width: int, height: int) -> RenderableType:
        """The same for a terminal of that size."""
        ...

    def as_plain(self) -> dict[str, Any]:
        """The same as plain data."""
        ...


class OneRun:
    """A run folder."""

    def __init__(self, path: Path) -> None:
        self._watch = Watch(path)
        self.look()

    def look(self) -> None:
        """Read what is new."""
        self.now = self._watch.look()

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended in order."""
        return self.now.state is State.FINISHED

    def lines(self) -> list[str]:
        """Where it is, and its last step's figures."""
        now = self.now
        parts = [printable(str(now.path)), _state(now), _progress(now)]
        if now.metrics:
            parts += [f"{name} {printable(value)}" for name, value in figures(now.metrics[-1]).items()]
        return ["  ".join(part for part in parts if part)]

    def frame(self, width: int, height: int) -> RenderableType:
        """Head, figures, curves and rollouts, as far as the height allows."""
        now = self.now
        head = Text.assemble(
            (printable(str(now.path)), "bold"), "  ", (_state(now), _COLORS[now.state]), "  ", _progress(now)
        )
        parts: list[RenderableType] = [head, Text(_about(now), style="dim", no_wrap=True, overflow="ellipsis")]
        if now.max_steps:
            bar = Table.grid()  # alone it ends no line
            bar.add_row(ProgressBar(now.max_steps, now.step, width=width))
            parts.append(bar)
        if now.metrics:
            shown = Table(box=None, pad_edge=False)
            for name in (told := figures(now.metrics[-1])):
                shown.add_column(name, justify="right", no_wrap=True)
            shown.add_row(*(Text(printable(value)) for value in told.values()))
            parts += [shown, *_curves(now, width, height // 2)]
        parts += _rollouts(now, width)
        return Group(*parts)

    def as_plain(self) -> dict[str, Any]:
        """What is known of it; rollouts are those that a frame shows."""
        now = self.now
        return {
            "run": str(now.path),
            "state": now.state,
            "step": now.step,
            "max_steps": now.max_steps,
            "max_tokens": now.max_tokens,
            "max_minutes": now.max_minutes,
            "tokens": now.tokens,
            "seconds": now.seconds,
            "seconds_left": now.left,
            "seconds_silent": now.silent,
            "metrics": now.metrics[-1] if now.metrics else None,
            "evaluation": _evaluation(now.evaluations[-1]) if now.evaluations else None,
            "rollouts": [
                {"step": now.rollouts_step, "problem": one.key, "told": _told(one), "rows": _shown(one)}
                for one in excerpts(now.rollouts, _PROBLEMS)
            ],
        }


class Comparison:
    """The runs in the folder of a `masa compare`, those that come later included."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watches: dict[str, Watch] = {}
        self.look()

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether a folder is one, and not a run's own."""
        return (path / "runs").is_dir() and not (path / CONFIG).exists() and not (path / METRICS).exists()

    def look(self) -> None:
        """Read what is new."""
        if not self._path.is_dir():
            raise UserError(f"folder {self._path} does not exist any more")
        self._done = {file.stem for file in self._path.glob("results/*.json")}
        names = {file.stem for file in self._path.glob("runs/*.yaml")} | self._done
        self._runs: dict[str, Snapshot | None] = {}
        for name in sorted(names, key=_by_arm_and_seed):
            self._runs[name] = None
            with suppress(UserError):  # not begun, or gone again
                if name not in self._watches:
                    self._watches[name] = Watch(self._path / "runs" / name)
                self._runs[name] = self._watches[name].look(with_rollouts=False)

    @property
    def is_finished(self) -> bool:
        """Whether the comparison has been written since the last result: that is done when all runs have ended."""
        written = self._path / "comparison.json"
        results = [file.stat().st_mtime_ns for file in self._path.glob("results/*.json")]
        return bool(results) and written.exists() and written.stat().st_mtime_ns >= max(results)

    def lines(self) -> list[str]:
        """A line a run."""
        return ["  ".join([name, *cells]) for name, cells in self._rows()]

    def frame(self, width: int, height: int) -> RenderableType:  # noqa: ARG002
        """A row a run."""
        columns = ("run", "state", "steps", "time left", "tokens", "pass rate", "held out", "Spearman", "zero variance")
        made = table(printable(str(self._path)), *columns)
        for name, cells in self._rows():
            made.add_row(*(Text(cell) for cell in (name, *cells)))
        return made

    def as_plain(self) -> dict[str, Any]:
        """A value a run."""
        found: list[dict[str, Any]] = []
        for name, now in self._runs.items():
            row: dict[str, Any] = {"run": name, "state": self._state(name, now)}
            if now is not None:
                row |= {"step": now.step, "max_steps": now.max_steps, "tokens": now.tokens, "seconds_left": now.left}
                row["metrics"] = now.metrics[-1] if now.metrics else None
                row["evaluation"] = _evaluation(now.evaluations[-1]) if now.evaluations else None
            found.append(row)
        return {"comparison": str(self._path), "runs": found}

    def _state(self, name: str, now: Snapshot | None) -> str:
        if name in self._done:
            return State.FINISHED.value
        return State.WAITING.value if now is None else now.state.value

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        for name, now in self._runs.items():
            state = self._state(name, now)
            if now is None:
                yield printable(name), [state, *("-" for _ in range(7))]
                continue
            last = now.metrics[-1] if now.metrics else {}
            held_out = now.evaluated("pass_at_1")[1]
            numbers = [last.get("pass_rate"), held_out[-1] if held_out else None]
            numbers += [last.get(key) for key in ("awareness/pass_rate_spearman", "groups/zero_variance_share")]
            steps = f"{now.step}/{now.max_steps}" if now.max_steps else str(now.step)
            left = clock(now.left) if now.left is not None and state == State.RUNNING else "-"
            cells = [state, steps, left, f"{now.tokens:,}"]
            yield printable(name), [*cells, *("-" if value is None else f"{value:.2f}" for value in numbers)]


def run(path: Path, *, every: float, once: bool, as_json: bool) -> None:
    """Follow a run, or all runs of a comparison, until it has ended or the user leaves.

    Args:
        path: the folder.
        every: seconds between two looks.
        once: print what there is now, and leave.
        as_json: the same as one JSON object.

    Raises:
        UserError: if there is no run, or it goes away.
    """
    if not every >= 0.1:
        raise UserError(f"--every {every:g}: it must be at least 0.1 seconds")
    path = path.expanduser()
    watched: _Watched = Comparison(path) if Comparison.is_at(path) else OneRun(path)
    if as_json:
        sys.stdout.write(json.dumps(without_nonfinite(plain(watched.as_plain()))[0], allow_nan=False) + "\n")
        return
    console = wide_console()
    if once:
        console.print(watched.frame(console.width, 60))
        return
    # Leave the terminal as it was.
    signal.signal(signal.SIGTERM, _leave)
    with suppress(KeyboardInterrupt):  # the way to leave, no mishap
        if Console().is_terminal:
            _follow(watched, every)
        else:
            _tell(watched, every)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _follow(watched: _Watched, every: float) -> None:
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            width, height = console.size
            live.update(watched.frame(width, height), refresh=True)
            if watched.is_finished:
                break
            time.sleep(every)
            watched.look()
    console.print(watched.frame(*console.size))


def _tell(watched: _Watched, every: float) -> None:
    """Lines that changed, where there is no terminal to paint."""
    console = Console(highlight=False)
    told: list[str] = []
    while True:
        now = watched.lines()
        for line in now:
            if line not in told:
                console.print(Text(line), soft_wrap=True)
        told = now
        if watched.is_finished:
            return
        time.sleep(every)
        watched.look()


def _state(now: Snapshot) -> str:
    silent = clock(now.silent)
    if now.state is State.WAITING:
        return f"waiting for its first step, silent for {silent}"
    if now.state is State.STOPPED:
        return f"stopped {silent} ago: --resume goes on from checkpoint-{now.step}"
    if now.state is State.STALE:
        return f"stale, silent for {silent}: killed, hanging, or evaluating for long"
    return now.state.value


def _progress(now: Snapshot) -> str:
    parts = [f"step {now.step}/{now.max_steps}" if now.max_steps else f"step {now.step}"]
    parts.append(f"{now.tokens:,} tokens" + (f" of {now.max_tokens:,.0f}" if now.max_tokens else ""))
    if now.max_minutes:
        parts.append(f"{now.seconds / 60:.1f} of {now.max_minutes:g} minutes")
    if now.left is not None:
        parts.append(f"{clock(now.left)} left")
    return ", ".join(parts)


def _about(now: Snapshot) -> str:
    """What is trained, and the last held-out evaluation."""
    parts = [f"{key} {printable(str(now.settings[key]))}" for key in ("model", "preset") if now.settings.get(key)]
    if now.evaluations:
        last = _evaluation(now.evaluations[-1])
        said = ", ".join(f"{name} {value:,.2f}" for name, value in last.items() if name != "step")
        parts.append(f"held out after step {last['step']:.0f}: {said}")
    return "; ".join(parts)


def _evaluation(row: Row) -> dict[str, float]:
    names = ("step", "pass_at_1", "pass_rate_spearman", "length_spearman", "brier", "ece")
    return {name: value for name in names if (value := number(row.get(name))) is not None}


def _curves(now: Snapshot, width: int, height: int) -> list[RenderableType]:
    drawn = charts(now)
    columns = max(1, min(3, width // WIDTH, len(drawn)))
    lines = max(1, min(height // HEIGHT, -(-len(drawn) // columns)))
    each = max(HEIGHT, min(12, height // lines))
    grid = Table.grid(padding=(0, 1))
    for first in range(0, min(len(drawn), lines * columns), columns):
        grid.add_row(*(one.draw(width // columns - 1, each, now.step) for one in drawn[first : first + columns]))
    return [grid] if drawn else []


def _rollouts(now: Snapshot, width: int) -> list[RenderableType]:
    found: list[RenderableType] = []
    for one in excerpts(now.rollouts, _PROBLEMS):
        task = printable(str(one.rows[0].get("task") or ""))
        title = f"step {now.rollouts_step}, problem {printable(one.key)}" + (f", {task}" if task else "")
        found.append(Text(f"\n{title}: {_told(one)}", style="bold"))
        found.append(_line("", one.rows[0].get("problem_text"), 2 * width))
        for row in _shown(one):
            if row.get("role") == "meta":
                mark, color = "foretold", "magenta"
            else:
                mark, color = ("right", "green") if row.get("correct") is True else ("wrong", "red")
            length = number(row.get("length"))
            tokens = "" if length is None else f", {length:.0f} tokens"
            found.append(_line(f"{mark}{tokens}: ", row.get("text"), 2 * width, color))
    return found


def _shown(one: Excerpt) -> list[Row]:
    return [*one.some_solutions(_SOLUTIONS), *one.predictions[:1]]


def _told(one: Excerpt) -> str:
    """What came of a problem beside what was foretold of it."""
    said = [row["prediction"] for row in one.predictions if isinstance(row.get("prediction"), Mapping)]
    rate, length = _mean(said, "pass_rate"), _mean(said, "length")
    right = [row for row in one.solutions if row.get("correct") is True]
    parts = [f"{one.correct} of {len(one.solutions)} right" if one.solutions else "not rolled out"]
    if rate is not None:
        parts.append(f"{rate * len(one.solutions):.1f} foretold" if one.solutions else f"{rate:.0%} right foretold")
    if (true := _mean(right, "length")) is not None:
        parts.append(f"right ones took {true:.0f} tokens")
    if length is not None:
        parts.append(f"{length:.0f} tokens foretold")
    return ", ".join(parts)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [value for row in rows if (value := number(row.get(name))) is not None]
    return sum(values) / len(values) if values else None


def _line(mark: str, text: Any, most: int, color: str = "") -> Text:
    """A text of a model's or a user's as one paragraph, and nothing else: no markup, no escapes."""
    shown = printable(text) if isinstance(text, str) else "-"
    if len(shown) + len(mark) > most:
        shown = shown[: most - len(mark) - 1] + "…"
    return Text.assemble((mark, color), shown)


def _by_arm_and_seed(name: str) -> tuple[str, int]:
    seed = _SEED.search(name)
    return (name[: seed.start()], int(seed[1])) if seed else (name, 0)
