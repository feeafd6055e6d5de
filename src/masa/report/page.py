"""The page: one HTML file with everything in it, that opens without a network."""

from __future__ import annotations

import os
from pathlib import Path

from masa.report import charts
from masa.report.data import RunData, number
from masa.report.document import document, section, table, text
from masa.report.figures import Chart
from masa.report.rollouts import browser, pack
from masa.report.samples import samples
from masa.report.summary import Tile, amount, sentences, tiles
from masa.runs import atomic_write_text
from masa.runs.jsonlines import flatten


def write_report(run_folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Writes the report of a run, from its folder alone, and gives its path.

    Args:
        run_folder: a run's own folder, finished or not.
        output: where to; default `report.html` in the run folder.

    Raises:
        UserError: if there is no run or one of its files is damaged.
        OSError: if the output's folder does not exist.
    """
    run = RunData.load(run_folder)
    target = Path(output) if output is not None else Path(run_folder) / "report.html"
    atomic_write_text(target, render(run))
    return target


def render(run: RunData) -> str:
    """The page's HTML."""
    figures: list[Chart] = []
    packed = pack(run.newest_rollouts())
    body = "".join(
        [
            _head(run),
            section(figures, "Learning", "Is it getting better?", charts.learning(run)),
            section(figures, "Awareness", "Does it know what it can do?", charts.awareness(run)),
            section(figures, "Spending", "What was skipped, cut and saved.", charts.spending(run)),
            section(figures, "Rollouts", "How long they are and why they end.", charts.rollouts(run)),
            section(figures, "Learner", "", charts.learner(run), is_small=True),
            _samples(run),
            browser(packed),
            _tables(run),
        ]
    )
    return document(
        f"{run.name} · MASA run",
        body,
        figures,
        footer="Made from the run folder alone; this page loads nothing from the network.",
        packed=packed.data,
    )


def _head(run: RunData) -> str:
    words = "".join(f"<li>{text(sentence)}</li>" for sentence in sentences(run))
    figures = "".join(map(_tile, tiles(run)))
    return (
        f"<header><h1>{text(run.name)}</h1><p>MASA training run</p></header>"
        f'<ul class="words">{words}</ul><div class="tiles">{figures}</div>'
    )


def _tile(tile: Tile) -> str:
    before = f"<i>{text(tile.before)} → </i>" if tile.before else ""
    note = f"<small>{text(tile.note)}</small>" if tile.note else ""
    return f'<div class="tile"><span>{text(tile.title)}</span><b>{before}{text(tile.value)}</b>{note}</div>'


def _samples(run: RunData) -> str:
    shown = samples(run.rollouts)
    if not shown:
        return ""
    step = number(run.rollouts[0].get("step"))
    lead = "Some of the last step's rollouts" + (f" (step {step:.0f})." if step is not None else ".")
    return f'<h2>Samples</h2><p class="lead">{lead}</p>{shown}'


def _tables(run: RunData) -> str:
    totals = {
        name.replace("_", " "): amount(value) for name, raw in run.ledger.items() if (value := number(raw)) is not None
    }
    parts = [("Ledger", totals, True), ("Versions and seeds", flatten(run.run), False)]
    tables = "".join(
        f"<div><h2>{title}</h2>{table(rows, are_numbers=are_numbers)}</div>"
        for title, rows, are_numbers in parts
        if rows
    )
    settings = flatten(run.settings)
    config = (
        f"<h2>Settings</h2><details><summary>{len(settings)} settings</summary>{table(settings)}</details>"
        if settings
        else ""
    )
    return f'<div class="columns">{tables}</div>{config}'
