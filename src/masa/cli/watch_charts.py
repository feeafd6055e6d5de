"""Curves in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import plotext
from rich.console import Group
from rich.text import Text

from masa.runs.watching import Snapshot

HEIGHT, WIDTH = 8, 38
"""Least lines and columns of a chart that can be read, its title included."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values by step."""

    name: str
    color: str
    steps: Sequence[float]
    values: Sequence[float]
    are_points: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one axis of steps."""

    title: str
    curves: tuple[Curve, ...]
    digits: int = 2

    def draw(self, width: int, height: int, last_step: int) -> Group:
        """Title and curves as text of so many columns and lines."""
        title = Text(self.title, style="bold", no_wrap=True, overflow="ellipsis")
        for curve in self.curves:
            title.append(f"  {curve.name} {curve.values[-1]:,.{self.digits}f}", style=f"not bold {curve.color}")
        figure = plotext.figure
        figure.clear()
        figure.theme("simple")
        figure.plot_size(width, height - 1)
        for curve in self.curves:
            steps, values = _thinned(curve.steps, curve.values, width)
            marker = plotext.marker("x" if curve.are_points else "braille", pixel=curve.color)
            signal = figure.signal(steps, values, marker=marker)
            if not curve.are_points and len(steps) > 1:
                signal.lines()
            figure.draw(signal)
        figure.ruler(0).lim(0, max(1, last_step))
        figure.ruler(0).ticks([0, last_step], ["0", str(last_step)])
        low, high = _bounds([value for curve in self.curves for value in curve.values])
        figure.ruler(1).lim(low, high)
        figure.ruler(1).ticks([low, high], [f"{low:,.{self.digits}f}", f"{high:,.{self.digits}f}"])
        return Group(title, Text.from_ansi(figure.build().string(False), no_wrap=True))


def charts(run: Snapshot) -> list[Chart]:
    """Those of which a run has written anything, what matters most first."""

    def curve(name: str, title: str, color: str) -> Curve:
        return Curve(title, color, *run.series(name))

    steps, tokens = run.series("tokens/generated")
    spent = [after - before for before, after in pairwise(tokens)]
    found = [
        Chart(
            "pass rate",
            (curve("pass_rate", "now", "blue"), Curve("held out", "green", *run.evaluated("pass_at_1"), True)),
        ),
        Chart("reward", (curve("reward/solution", "solve", "blue"), curve("reward/meta", "foretell", "red"))),
        Chart("zero-variance groups", (curve("groups/zero_variance_share", "now", "blue"),)),
        Chart(
            "Spearman",
            (
                curve("awareness/pass_rate_spearman", "pass rate", "blue"),
                curve("awareness/length_spearman", "length", "magenta"),
            ),
        ),
        Chart("tokens a step", (Curve("now", "blue", steps[1:], spent),), digits=0),
    ]
    kept = [Chart(one.title, tuple(each for each in one.curves if each.values), one.digits) for one in found]
    return [one for one in kept if one.curves]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Of the axis; shares keep 0 and 1 in sight."""
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    low = min(low, 0.0)
    return low, high if high > low else low + 1


def _thinned(steps: Sequence[float], values: Sequence[float], width: int) -> tuple[list[float], list[float]]:
    """Means over as many neighbours as share a dot: two dots a column."""
    size = math.ceil(len(steps) / (2 * width)) or 1
    places = range(0, len(steps), size)
    return [_mean(steps[at : at + size]) for at in places], [_mean(values[at : at + size]) for at in places]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
