"""`masa report`: the page of a run, or of several runs as arms side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.evaluation.comparison import compare
from masa.evaluation.run_result import compared, run_result
from masa.report import write_comparison, write_report
from masa.runs import RUN_KEY, RunFolder

_OF_A_SEED = ("seed", "data_seed")


@dataclass(frozen=True, slots=True)
class _Run:
    folder: RunFolder
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))

    @property
    def kind(self) -> dict[str, Any]:
        """Settings that all runs of an arm share."""
        return {key: value for key, value in compared(self.settings).items() if key not in _OF_A_SEED}


def write(runs: Sequence[Path], output: Path | None = None) -> Path:
    """Writes the page and gives its path.

    Runs whose settings differ by their seed alone are one arm; the first run's arm is the baseline.

    Args:
        runs: run folders.
        output: where to; default: `report.html` in the folder of a single run, `comparison.html` beside the first one
            of several.

    Raises:
        UserError: if one of them is no run, or several are the same run, or have no held-out evaluation to compare.
    """
    if len(runs) == 1:
        return write_report(runs[0], output)
    found = []
    for path in runs:
        folder = RunFolder.open(path)
        settings = {key: value for key, value in folder.read_config().items() if key != RUN_KEY}
        found.append(_Run(folder, settings))
    arms: list[list[_Run]] = []
    for run in found:
        arm = next((some for some in arms if some[0].kind == run.kind), None)
        if arm is None:
            arms.append([run])
        elif twice := next((other for other in arm if other.seed == run.seed), None):
            raise UserError(
                f"{twice.folder.path} and {run.folder.path} have the same settings and seed: give one of them"
            )
        else:
            arm.append(run)
    names = _names(arms)
    results = [
        run_result(run.folder, arm=name, seed=run.seed, settings=run.settings, machine={})
        for name, arm in zip(names, arms, strict=True)
        for run in arm
    ]
    comparison = compare(results, baseline=names[0], arms=names)
    comparison["notes"] = [
        f"{name}: {', '.join(str(run.folder.path) for run in arm)}." for name, arm in zip(names, arms, strict=True)
    ]
    comparison["notes"].append("Seconds compare only if the runs were made on the same machine under the same load.")
    return write_comparison(comparison, output or runs[0].resolve().parent / "comparison.html")


def _names(arms: Sequence[Sequence[_Run]]) -> list[str]:
    """An arm's name: its preset, or where another arm has the same, its first run's folder without the seed."""
    presets = [str(arm[0].settings.get("preset")) for arm in arms]
    names = [
        preset if presets.count(preset) == 1 and preset != "None" else arm[0].name.removesuffix(f"-{arm[0].seed}")
        for preset, arm in zip(presets, arms, strict=True)
    ]
    return [name if names.count(name) == 1 else str(arm[0].folder.path) for name, arm in zip(names, arms, strict=True)]
