"""`masa data`: what benchmarks there are, what is in one, and whether two sets share problems."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from masa.errors import UserError
from masa.tasks.benchmarks import BENCHMARKS, Benchmark, find_benchmark, load_benchmark, local_file
from masa.tasks.overlap import find_overlap
from masa.tasks.sources import open_source

app = typer.Typer(help="Benchmarks and data sets.", no_args_is_help=True)
_DATA_DIR: Any = typer.Option(None, "--data-dir", help="Folder whose files win over the Hub; default: MASA_DATA.")
_JSON: Any = typer.Option(False, "--json", help="One JSON object and nothing else.")


@app.command("list")
def list_benchmarks(data_dir: Path | None = _DATA_DIR, as_json: bool = _JSON) -> None:
    """Every benchmark: rows, grader, licence, where it comes from, and whether it is here."""
    found = {name: local_file(entry, data_dir) for name, entry in BENCHMARKS.items()}
    if as_json:
        typer.echo(json.dumps([_described(entry, found[name]) for name, entry in BENCHMARKS.items()]))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "group", "rows", "grader", "here", "source", "licence"):
        table.add_column(heading, no_wrap=heading != "licence", justify="right" if heading == "rows" else "left")
    for name, entry in BENCHMARKS.items():
        here = "yes" if found[name] else "-"
        table.add_row(name, entry.group, str(entry.rows), entry.kind, here, _place(entry.source), entry.licence)
    Console(width=180, highlight=False).print(table, markup=False)


@app.command("show")
def show(name: str, data_dir: Path | None = _DATA_DIR, as_json: bool = _JSON) -> None:
    """One benchmark: its entry, how many problems can be had, and the first prompt."""
    entry = find_benchmark(name)
    described = _described(entry, local_file(entry, data_dir))
    problems = load_benchmark(name, data_dir=data_dir)
    described |= {"problems": len(problems), "left_out": problems.skipped, "loaded_from": problems.source}
    if not entry.secret:
        described["first_prompt"] = problems.problems[0].text
    if as_json:
        typer.echo(json.dumps(described))
        return
    for key, value in described.items():
        typer.echo(f"{key}: {'; '.join(value) if isinstance(value, list) else value}")
    if entry.secret:
        typer.echo("its authors ask that its problems are not shown")


@app.command("overlap")
def overlap(
    first: str = typer.Argument(..., help="Training data: a file, a Hub id, or a benchmark's name."),
    second: str = typer.Argument(..., help="Test data, likewise."),
    column: str = typer.Option("problem", help="Field of the text."),
    data_dir: Path | None = _DATA_DIR,
    as_json: bool = _JSON,
) -> None:
    """Problems of the first set that stand in the second, equal once normalised or nearly so."""
    mine, theirs = _texts(first, column, data_dir), _texts(second, column, data_dir)
    matches = find_overlap([text for _, text in mine], [text for _, text in theirs])
    exact = sum(match.exact for match in matches)
    if as_json:
        pairs = [
            {"first": mine[match.first][0], "second": theirs[match.second][0], "exact": match.exact,
             "share": round(match.share, 3)}
            for match in matches
        ]  # fmt: skip
        counts = {"first": len(mine), "second": len(theirs), "exact": exact, "near": len(matches) - exact}
        typer.echo(json.dumps({**counts, "matches": pairs}))
        return
    for match in matches:
        how = "equal" if match.exact else f"{match.share:.0%} alike"
        typer.echo(f"{mine[match.first][0]}  {theirs[match.second][0]}  {how}")
    typer.echo(f"{exact} of {len(mine)} problems stand in {second}, {len(matches) - exact} more are nearly the same")


def _place(source: str) -> str:
    """A Hub id or address as it is; of a single file on GitHub, its repository."""
    raw = "https://raw.githubusercontent.com/"
    if not source.startswith(raw):
        return source
    return "https://github.com/" + "/".join(source.removeprefix(raw).split("/")[:2])


def _described(entry: Benchmark, path: Path | None) -> dict[str, Any]:
    read: Callable[..., Any] | None = entry.read
    return {
        "name": entry.name,
        "group": entry.group,
        "grader": entry.kind,
        "rows": entry.rows,
        "source": entry.source,
        "config": entry.config,
        "split": entry.split,
        "columns": dict(entry.columns) if read is None else "see masa.tasks.benchmark_rows",
        "licence": entry.licence,
        "quirks": list(entry.quirks),
        "file": str(path) if path else "",
    }


def _texts(source: str, column: str, data_dir: Path | None) -> list[tuple[str, str]]:
    """Name and text of each problem; the name is the row's `id` or place."""
    if source in BENCHMARKS:
        path = local_file(BENCHMARKS[source], data_dir)
        if path is None or BENCHMARKS[source].secret:
            found = load_benchmark(source, data_dir=data_dir).problems
            return [(str(problem.extra.get("id", problem.key)), problem.text) for problem in found]
        source = str(path)
    texts = []
    for place, row in open_source(source, split=None, config=None)[1]:
        if isinstance(row, str):
            raise UserError(f"{place}: {row}")
        text = row.get(column)
        if not isinstance(text, str):
            there = ", ".join(map(str, row))
            raise UserError(f"{place}: field {column!r} must be a text (fields there: {there}); --column names another")
        texts.append((str(row.get("id") or place), text))
    return texts
