"""What a run shows in the terminal while it works, and when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from masa.runs import RunFolder

_PLAIN_EVERY = 10


class Progress:
    """One live table in a terminal; every tenth step as a line where there is none."""

    def __init__(self, console: Console, *, total: int, output: Path) -> None:
        self._console = console
        self._total = total
        self._output = output
        self._started = time.monotonic()
        self._first_step: int | None = None
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, metrics: dict[str, Any]) -> None:
        """Show a step."""
        step = int(metrics["step"])
        if self._first_step is None:  # a resumed run does not begin at step 1
            self._first_step = step - 1
        shown = figures(metrics) | {"time left": self._time_left(step)}
        if self._console.is_terminal:
            table = Table(title=f"{self._output}  step {step}/{self._total}", box=None, pad_edge=False)
            for name in shown:
                table.add_column(name, justify="right")
            table.add_row(*shown.values())
            self._live.update(table)
        if step % _PLAIN_EVERY == 0 or step == self._total:
            line = "  ".join(f"{name} {value}" for name, value in shown.items())
            self._console.print(f"step {step}/{self._total}  {line}", highlight=False, soft_wrap=True)

    def evaluated(self, row: dict[str, Any]) -> None:
        """Show a held-out evaluation."""
        if self._first_step is None:
            self._started = time.monotonic()  # what comes before the first step says nothing of steps
        self._console.print(f"held-out after step {row['step']}: {_evaluation(row)}", highlight=False, soft_wrap=True)

    def _time_left(self, step: int) -> str:
        done = step - (self._first_step or 0)
        seconds = (time.monotonic() - self._started) / done * (self._total - step)
        return clock(seconds)


def show_summary(console: Console, folder: RunFolder, report: Path) -> None:
    """Before and after, the ledger, and where the report is."""
    evaluations = folder.read_evaluations()
    if len(evaluations) > 1:
        table = Table(title="held-out", box=None)
        for name in ("", "before", "after"):
            table.add_column(name, justify="right")
        for label, key in _COMPARED:
            values = [evaluations[0].get(key), evaluations[-1].get(key)]
            if any(value is not None for value in values):
                table.add_row(label, *("-" if value is None else f"{value:.3f}" for value in values))
        console.print(table)
    ledger = folder.read_ledger()
    if ledger:
        spent = {name: ledger[f"{name}_tokens"] for name in ("solution", "meta", "audit", "warm_start")}
        saved = {name: ledger[f"saved_{name}_tokens"] for name in ("gate", "cutoff")}
        console.print(
            "tokens spent: " + ", ".join(f"{n} {v:,}" for n, v in spent.items() if v), highlight=False, soft_wrap=True
        )
        if any(saved.values()):
            parts = ", ".join(f"{n} {v:,.0f}" for n, v in saved.items())
            console.print(
                f"tokens saved (estimated): {parts}; net of predictions {ledger['net_saved_tokens']:,.0f}",
                highlight=False,
                soft_wrap=True,
            )
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


_COMPARED = (
    ("pass@1", "pass_at_1"),
    ("pass@1, 95 % low", "pass_at_1_low"),
    ("pass@1, 95 % high", "pass_at_1_high"),
    ("Spearman, pass rate", "pass_rate_spearman"),
    ("Spearman, length", "length_spearman"),
    ("Brier score", "brier"),
    ("calibration error", "ece"),
    ("valid predictions", "valid_share"),
    ("zero-variance groups", "zero_variance_share"),
)


def clock(seconds: float) -> str:
    """A duration: minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def figures(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What a step is told by, as texts."""

    def share(name: str, of: Callable[[float], float] = float) -> str:
        return "-" if metrics.get(name) is None else f"{of(metrics[name]):.2f}"

    saved = metrics.get("tokens/saved_gate", 0) + metrics.get("tokens/saved_cutoff", 0)
    return {
        "phase": str(metrics.get("phase", "-")),
        "reward": share("reward/solution"),
        "pass rate": share("pass_rate"),
        "live": share("groups/zero_variance_share", lambda flat: 1 - flat),
        "meta": share("reward/meta"),
        "spearman": share("awareness/pass_rate_spearman"),
        "gated": share("gate/share"),
        "cut": share("cutoff/share"),
        "saved": f"{saved:,.0f}",
        "s/step": f"{metrics.get('time/step', 0):.1f}",
    }


def _evaluation(row: dict[str, Any]) -> str:
    parts = [f"pass@1 {row['pass_at_1']:.3f}"]
    if row.get("pass_at_1_low") is not None:
        parts[0] += f" [{row['pass_at_1_low']:.3f}, {row['pass_at_1_high']:.3f}]"
    for label, key in (("Spearman pass rate", "pass_rate_spearman"), ("length", "length_spearman")):
        if row.get(key) is not None:
            parts.append(f"{label} {row[key]:.2f}")
    return ", ".join([*parts, f"{row['problems']} problems x {row['samples_per_problem']}"])
