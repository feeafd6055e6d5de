"""The run folder: everything a run leaves behind, readable without this package.

    config.yaml                  resolved settings; under `run`: versions and seeds
    metrics.jsonl                one line a step
    evaluations.jsonl            one line a held-out evaluation
    rollouts/step-N.jsonl.gz     every rollout of step N
    ledger.json                  totals of tokens and seconds
    checkpoint-N/, report.html   written by others

One process writes a folder; any number may read it meanwhile.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import yaml

from masa.errors import UserError
from masa.runs.atomic import atomic_write_bytes, atomic_write_text, remove_leftovers
from masa.runs.jsonlines import (
    Row,
    append_row,
    decode_rows,
    differing,
    encode_row,
    gzip_rows,
    plain,
    read_gzipped_rows,
    read_rows,
    repair,
    without_nonfinite,
)
from masa.yaml_values import read_mapping

CONFIG, METRICS, EVALUATIONS, LEDGER, ROLLOUTS = (
    "config.yaml",
    "metrics.jsonl",
    "evaluations.jsonl",
    "ledger.json",
    "rollouts",
)
RUN_KEY = "run"
"""The one key of `config.yaml` that is no setting: versions and seeds."""

_STEP_FILE = re.compile(r"step-(\d+)\.jsonl\.gz")
_PACKAGES = {"torch": "torch", "transformers": "transformers", "trl": "trl", "masa": "masa-rl"}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers; nothing is imported for it."""
    versions = {"python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


class RunFolder:
    """One run's folder. Make it with `create` (to write) or `open` (to read)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Only names the folder: touches nothing."""
        self.path = Path(path)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        *,
        seeds: Mapping[str, int] | None = None,
        resume: bool = False,
        may_differ: Collection[str] = (),
        budget: Mapping[str, float] | None = None,
    ) -> Self:
        """A folder for a new run, or with `resume` the folder of a run that goes on.

        Args:
            path: made if it does not exist.
            config: resolved settings; written in YAML's own types (paths and others as text).
            seeds: the run's seeds by name.
            resume: go on with the run that is there. The caller then calls `rewind` with its checkpoint's step.
            may_differ: settings (dotted names) that a resumed run may change, such as its number of steps.
            budget: limits that end the run early, by name; a resumed run may have others.

        Raises:
            UserError: if the folder holds another run, or with `resume` none, or one whose settings differ.
        """
        folder = cls(path)
        settings = _storable(config)
        if RUN_KEY in settings:
            raise ValueError(f"no setting may be called {RUN_KEY!r}: the run folder writes its own notes there")
        run: dict[str, Any] = {"versions": package_versions(), "seeds": dict(seeds or {})}
        if folder.path.exists() and not folder.path.is_dir():
            raise UserError(f"output {folder.path} is a file, not a folder: name another one with --output")
        if resume:
            run = folder._check_resumable(settings, run, may_differ)
            run.pop("budget", None)
        elif found := folder._traces():
            raise UserError(
                f"output folder {folder.path} holds another run ({found[0]}): continue it with --resume, "
                "or name another folder with --output"
            )
        if budget:
            run["budget"] = dict(budget)
        folder.rollouts_path.mkdir(parents=True, exist_ok=True)
        for written in (folder.path, folder.rollouts_path):
            remove_leftovers(written)
        text = yaml.safe_dump(settings | {RUN_KEY: run}, sort_keys=False, allow_unicode=True, width=120)
        atomic_write_text(folder.config_path, text)
        for lines in (folder.metrics_path, folder.evaluations_path):
            repair(lines)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """The folder of a run that is there.

        Raises:
            UserError: if the folder does not exist or holds no run.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise UserError(f"run folder {folder.path} does not exist: check the path")
        if not folder.config_path.exists() and not folder.metrics_path.exists():
            raise UserError(f"{folder.path} holds no run (neither {CONFIG} nor {METRICS}): name a run's own folder")
        return folder

    @property
    def config_path(self) -> Path:
        """Settings, versions and seeds."""
        return self.path / CONFIG

    @property
    def metrics_path(self) -> Path:
        """One line a step."""
        return self.path / METRICS

    @property
    def evaluations_path(self) -> Path:
        """One line a held-out evaluation."""
        return self.path / EVALUATIONS

    @property
    def ledger_path(self) -> Path:
        """Totals."""
        return self.path / LEDGER

    @property
    def rollouts_path(self) -> Path:
        """The folder of step files."""
        return self.path / ROLLOUTS

    # Writing

    def append_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds the line of one step; non-finite values are left out and counted under `nonfinite`.

        Raises:
            ValueError: if a line of this or a later step is there already: every step stands once.
        """
        last = self.last_step()
        if last is not None and step <= last:
            raise ValueError(f"metrics of step {step} after those of step {last}: rewind the folder first")
        append_row(self.metrics_path, {"step": step, **metrics})

    def append_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Adds the line of one held-out evaluation (`step` and, where there are several sets, `name`).

        An evaluation of the same step and name takes the earlier one's place: a resumed run repeats it.
        """
        rows = self.read_evaluations()
        kept = [row for row in rows if _evaluation_key(row) != _evaluation_key(evaluation)]
        if len(kept) == len(rows):
            append_row(self.evaluations_path, evaluation)
        else:
            _write_rows(self.evaluations_path, [*kept, plain(evaluation)])

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Writes all rollouts of one step as one whole file; the same rows give the same bytes."""
        path = self._step_path(step)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, gzip_rows(rows))
        return path

    def write_step(
        self,
        step: int,
        metrics: Mapping[str, Any],
        totals: Mapping[str, Any],
        rollouts: Iterable[Mapping[str, Any]] | None,
    ) -> None:
        """Writes all that one step leaves; the line of metrics after its rollouts, so that it speaks of what is there.

        Raises:
            OSError: if the disk is full, with the file's name.
        """
        if rollouts is not None:
            self.write_rollouts(step, rollouts)
        self.append_metrics(step, metrics)
        self.write_ledger(totals)

    def write_ledger(self, state: Mapping[str, Any]) -> None:
        """Writes the totals so far (`Ledger.state_dict()`)."""
        cleaned, _ = without_nonfinite(plain(state))
        atomic_write_text(self.ledger_path, json.dumps(cleaned, indent=2, allow_nan=False) + "\n")

    def rewind(self, step: int) -> None:
        """Forgets everything after `step`, so that a run resumed from that step's checkpoint writes it once."""
        for path in (self.metrics_path, self.evaluations_path):
            repair(path)
            rows = read_rows(path)
            kept = [row for row in rows if row.get("step", 0) <= step]
            if len(kept) != len(rows):
                _write_rows(path, kept)
        for later in [number for number in self.steps() if number > step]:
            self._step_path(later).unlink()

    # Reading

    def read_config(self) -> dict[str, Any]:
        """The settings, with versions and seeds under `run`; empty where there is no file.

        Raises:
            UserError: if the file is not a YAML mapping.
        """
        return read_mapping(self.config_path, "config") if self.config_path.exists() else {}

    def read_metrics(self) -> list[Row]:
        """One row a step, in order.

        Raises:
            UserError: if a line in the middle is damaged.
        """
        return read_rows(self.metrics_path)

    def read_evaluations(self) -> list[Row]:
        """One row a held-out evaluation, in order.

        Raises:
            UserError: if a line in the middle is damaged.
        """
        return read_rows(self.evaluations_path)

    def read_rollouts(self, step: int) -> list[Row]:
        """All rollouts of one step.

        Raises:
            UserError: if there is no file of that step or it is damaged.
        """
        path = self._step_path(step)
        if not path.exists():
            raise UserError(f"{path} does not exist: this run has rollouts of {len(self.steps())} steps")
        return read_gzipped_rows(path)

    def read_ledger(self) -> dict[str, Any]:
        """The totals; empty where there is no file.

        Raises:
            UserError: if the file is damaged.
        """
        if not self.ledger_path.exists():
            return {}
        try:
            state = json.loads(self.ledger_path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.ledger_path}: not JSON ({error}); it was changed by hand or damaged") from None
        if not isinstance(state, dict):
            raise UserError(f"{self.ledger_path}: a JSON object was expected; it was changed by hand or damaged")
        return state

    def steps(self) -> list[int]:
        """Steps that have a file of rollouts, ascending."""
        if not self.rollouts_path.is_dir():
            return []
        matches = (_STEP_FILE.fullmatch(path.name) for path in self.rollouts_path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def last_step(self) -> int | None:
        """The last step with metrics, or None."""
        if not self.metrics_path.exists():
            return None
        # Only the end is read: this is asked once a step, and a line is far below 64 KiB.
        with self.metrics_path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            tail = file.read()
        if size > len(tail):
            tail = tail.partition(b"\n")[2]
        rows = decode_rows(tail, f"the end of {self.metrics_path}") or self.read_metrics()
        return int(rows[-1]["step"]) if rows else None

    def _step_path(self, step: int) -> Path:
        return self.rollouts_path / f"step-{step}.jsonl.gz"

    def _traces(self) -> list[str]:
        """Names that show that a run has been here."""
        if not self.path.exists():
            return []
        names = sorted(entry.name for entry in self.path.iterdir())
        # A run that failed before its first step left settings and an evaluation, nothing that would be missed.
        known = {METRICS, *(name for name in names if re.fullmatch(r"checkpoint-\d+", name))}
        if CONFIG in names and RUN_KEY not in self.read_config():
            known.add(CONFIG)  # the user's own, not a run's
        return [name for name in names if name in known]

    def _check_resumable(
        self, settings: Mapping[str, Any], run: dict[str, Any], may_differ: Collection[str]
    ) -> dict[str, Any]:
        if not self.config_path.exists():
            raise UserError(f"no run to resume in {self.path} (no {CONFIG}): leave out --resume to start one")
        before = self.read_config()
        earlier_run = before.pop(RUN_KEY, None) or {}
        changed = differing(before, settings, may_differ)
        if run["seeds"] != earlier_run.get("seeds", {}):
            changed.append(f"seeds: {earlier_run.get('seeds')!r} there, {run['seeds']!r} now")
        if changed:
            shown = "; ".join(changed[:6]) + ("; ..." if len(changed) > 6 else "")
            raise UserError(
                f"cannot resume {self.path}: {len(changed)} setting(s) differ from its {CONFIG} ({shown}); "
                "use the same settings, or name another folder with --output"
            )
        # The versions the run began with stay; a change of versions is noted, since it can change numbers.
        if earlier_run.get("versions") != run["versions"]:
            return {**earlier_run, "resumed_with": [*earlier_run.get("resumed_with", []), run["versions"]]}
        return earlier_run


def read_metrics(path: str | os.PathLike[str]) -> list[Row]:
    """The metrics of the run in folder `path`, one row a step."""
    return RunFolder.open(path).read_metrics()


def read_evaluations(path: str | os.PathLike[str]) -> list[Row]:
    """The held-out evaluations of the run in folder `path`."""
    return RunFolder.open(path).read_evaluations()


def read_rollouts(path: str | os.PathLike[str], step: int) -> list[Row]:
    """The rollouts of one step of the run in folder `path`."""
    return RunFolder.open(path).read_rollouts(step)


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    atomic_write_bytes(path, b"".join(encode_row(row) for row in rows))


def _evaluation_key(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row.get("step"), row.get("name", "")


def _storable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as YAML gives them back; non-finite numbers become text, since no file holds one."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item) for item in value]
        return str(value) if isinstance(value, float) and without_nonfinite(value)[1] else value

    return {str(key): convert(value) for key, value in plain(config).items()}
