"""`masa compare`: arms x seeds from the same weights and data, then one table and one page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from masa.cli.compare_plan import Plan
from masa.cli.compare_runs import FINISHED, Places, Stopped, cores, read_result, run_all, state_of
from masa.errors import UserError
from masa.evaluation.comparison import compare
from masa.report.comparison import write_comparison
from masa.report.comparison_table import columns, intervals, markdown, rows
from masa.runs import atomic_write_text


def run(plan: Plan, output: Path, *, jobs: int | None, target: float | None, as_json: bool, is_dry: bool) -> int:
    """Makes what is missing and compares; gives the exit code: 0, 1 if a run failed, 128 + n after signal n.

    Args:
        plan: the runs.
        output: the comparison's folder.
        jobs: runs at a time; None: two, or one on a single core.
        target: accuracy whose cost is compared; None: the baseline's final one.
        as_json: print one JSON object instead of the table.
        is_dry: print the plan and touch nothing.

    Raises:
        UserError: if what is in the folder is of other settings.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs is {jobs}: at least one run must run at a time")
    if target is not None and not 0 < target <= 1:
        raise UserError(f"--target is {target}: an accuracy lies above 0 and is at most 1")
    if output.exists() and not output.is_dir():
        raise UserError(f"output {output} is a file, not a folder: name another one with --output")
    console = Console(stderr=True, markup=False, highlight=False)
    places = Places(output)
    states = {run.name: state_of(places, run) for run in plan.runs}
    at_a_time = jobs or min(2, cores())
    if is_dry:
        _show_plan(plan, states, at_a_time, output, as_json=as_json)
        return 0
    try:
        failures = run_all(plan.runs, states, places, jobs=at_a_time, console=console)
    except Stopped as stop:
        finished = sum(places.result(run).exists() for run in plan.runs)
        console.print(
            f"stopped: {finished} of {len(plan.runs)} runs are finished; the same command goes on from here",
            soft_wrap=True,
        )
        return 128 + stop.number
    results = [read_result(places.result(run)) for run in plan.runs if places.result(run).exists()]
    if results:
        comparison = compare(results, baseline=plan.baseline, arms=plan.arms, target=target)
        comparison |= _context(results, plan, failures)
        page = _write(comparison, output)
        if as_json:
            sys.stdout.write(json.dumps(comparison, allow_nan=False) + "\n")
        else:
            _show(comparison)
        console.print(f"page: {page}", soft_wrap=True)
    elif as_json:
        sys.stdout.write(json.dumps({"arms": [], "failed": failures}) + "\n")
    if failures:
        console.print(f"{len(failures)} of {len(plan.runs)} runs failed; the same command tries them again:")
        for line in failures:
            console.print(f"  {line}", soft_wrap=True)
    return 1 if failures else 0


def _context(results: Sequence[Mapping[str, Any]], plan: Plan, failures: Sequence[str]) -> dict[str, Any]:
    """What the numbers were made on, and what a reader must know of them."""
    machines, versions = _distinct(results, "machine"), _distinct(results, "versions")
    notes = list(plan.notes)
    if len(machines) > 1:
        notes.append("The runs were made on different machines or under different load: their seconds do not compare.")
    elif machines and (machines[0].get("jobs") or 1) > 1:
        notes.append(
            f"Seconds are wall time with up to {machines[0]['jobs']} runs at a time on {machines[0]['cores']} cores; "
            "--jobs 1 gives each run the machine to itself."
        )
    if len(versions) > 1:
        notes.append("The runs were made with different versions of the packages below.")
    if len({len(result["pass_rates"]) for result in results if result.get("pass_rates")}) > 1:
        notes.append("The runs were not evaluated on the same number of held-out problems: see max_prompt_length.")
    notes += [f"Missing: {line}" for line in failures]
    return {"notes": notes, "machines": machines, "versions": versions, "failed": list(failures)}


def _distinct(results: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    found: list[Any] = []
    for result in results:
        if result.get(key) not in found:
            found.append(result[key])
    return found


def _write(comparison: Mapping[str, Any], output: Path) -> Path:
    atomic_write_text(output / "comparison.json", json.dumps(comparison, indent=1, allow_nan=False) + "\n")
    atomic_write_text(output / "comparison.md", markdown(comparison))
    return write_comparison(comparison, output / "comparison.html")


def _show(comparison: Mapping[str, Any]) -> None:
    console = Console(markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns(comparison):
        table.add_column(name, justify="right")
    for row in rows(comparison):
        table.add_row(row.title, *row.cells)
    console.print(table)
    for line in (*intervals(comparison), *comparison["notes"]):
        console.print(line)


def _show_plan(plan: Plan, states: Mapping[str, str], jobs: int, output: Path, *, as_json: bool) -> None:
    differing = _differing(plan)
    if as_json:
        planned = [{"run": run.name, "arm": run.arm, "seed": run.seed, "state": states[run.name]} for run in plan.runs]
        found = {
            "output": str(output),
            "baseline": plan.baseline,
            "jobs": jobs,
            "runs": planned,
            "differing_settings": differing,
            "notes": list(plan.notes),
        }
        sys.stdout.write(json.dumps(found) + "\n")
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    left = sum(state != FINISHED for state in states.values())
    console.print(f"{len(plan.runs)} runs in {output}, {left} to make, {jobs} at a time; baseline {plan.baseline}")
    for run in plan.runs:
        console.print(f"  {run.name}: {states[run.name]}")
    console.print("settings that differ:")
    for key, values in differing.items():
        console.print(f"  {key}: " + ", ".join(f"{arm} {value}" for arm, value in values.items()))
    for note in plan.notes:
        console.print(note)


def _differing(plan: Plan) -> dict[str, dict[str, Any]]:
    first = {arm: next(run.settings for run in plan.runs if run.arm == arm) for arm in plan.arms}
    keys = dict.fromkeys(key for settings in first.values() for key in settings)
    values = {key: {arm: settings.get(key) for arm, settings in first.items()} for key in keys}
    return {key: found for key, found in values.items() if any(v != found[plan.baseline] for v in found.values())}
