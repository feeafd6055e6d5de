"""What a model is measured on: names given to `--data`, as problems, a prompt and a grader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from masa.cli.data_source import DataSource, read_sources, read_yaml, set_fields
from masa.cli.loading import NamedModel
from masa.errors import UserError, unknown_key_message
from masa.evaluation.answers import Grader
from masa.grading import grade_problems
from masa.records import Problem
from masa.runs.answers import file_name
from masa.tasks.benchmarks import BENCHMARKS, load_benchmark
from masa.tasks.dataset import BUNDLED, PROCEDURAL, load_problems
from masa.tasks.sources import looks_like_file

_HELD_OUT_SEED = 1000
"""Of procedural tasks: training draws with small seeds."""
_PROCEDURAL_SIZE = 200
_ENDINGS = ("", ".jsonl", ".parquet", "/test.jsonl", "/test.parquet")
"""What may follow a name in the data folder."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A data set to measure on."""

    name: str
    problems: tuple[Problem, ...]
    """Their keys count from 0."""
    prompt: str | None = None
    """Its own template around `{problem}`; None leaves that to the command and the model."""
    system: str | None = None
    grade: Grader = grade_problems
    notes: tuple[str, ...] = ()
    """What the user should know, for example of rows left out."""


def find_sets(names: str | None, model: NamedModel, *, data_dir: Path | None, limit: int | None) -> list[NamedSet]:
    """The data sets of `--data`; without it, what the model's own run held out.

    Raises:
        UserError: for a name that does not exist or is given twice, and without `--data` where no run tells.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: it must be at least 1")
    if names is None:
        if "heldout" not in model.settings:
            raise UserError(f"no data to measure {model.name} on: give --data NAME or FILE, several joined by commas")
        return [_from_config(model.settings, model.config, "held out", limit, data_dir)]
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UserError(f"--data {names!r} names no data set")
    sets = [find_set(name, data_dir=data_dir, limit=limit) for name in wanted]
    slugs = [file_name(one.name) for one in sets]
    if twice := next((one.name for one, slug in zip(sets, slugs, strict=True) if slugs.count(slug) > 1), None):
        raise UserError(f"--data names {twice} twice, or two files that would be taken for one another")
    return sets


def find_set(name: str, *, data_dir: Path | None = None, limit: int | None = None) -> NamedSet:
    """One data set by name: the place where every further kind of name belongs.

    - a benchmark (`masa data list`) with its own prompt and grader; of a training set, its test split;
    - `bundled`: the held-out problems of the bundled mix;
    - `reasoning_gym:NAME`: made under a seed that training does not use;
    - a `.yaml` file: what a training config holds out (else its data), with its prompt;
    - anything else as `masa train --data` takes it, files first sought in `data_dir`.

    Raises:
        UserError: if there is no such data, or a row is faulty.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_config(read_yaml(Path(name)), name, name, limit, data_dir)
    if name in BENCHMARKS:
        found = load_benchmark(name, data_dir=data_dir, limit=limit, is_test=True)
        return NamedSet(name, found.problems, prompt="{problem}", notes=found.complaints[:1])
    if name == BUNDLED:
        return _load(name, [DataSource(name, size=limit or _PROCEDURAL_SIZE, split="heldout")], limit)
    if name.startswith(PROCEDURAL):
        return _load(name, [DataSource(name, size=limit or _PROCEDURAL_SIZE, seed=_HELD_OUT_SEED)], limit)
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir {data_dir} is no folder")
        places = [data_dir / f"{name}{ending}" for ending in _ENDINGS]
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            return _load(name, [DataSource(str(path), limit=limit)], limit)
    if "/" not in name and not looks_like_file(name) and not Path(name).exists():
        message = unknown_key_message("data set", name, [*BENCHMARKS, BUNDLED])
        raise UserError(f"{message} (masa data list), or a file, or a Hub id (owner/name)")
    return _load(name, [DataSource(name, limit=limit)], limit)


def load_source(source: DataSource, *, is_test: bool, data_dir: Path | None = None) -> tuple[list[Problem], list[str]]:
    """Problems of one source, and what to tell the user of rows that were left out.

    Args:
        source: a benchmark's name, or anything that `load_problems` takes.
        is_test: whether they are measured on: of a benchmark that has both splits the test one, else the training one.
        data_dir: where a benchmark's file is sought first.

    Raises:
        UserError: if the source does not exist, a row is faulty or none is left; for a benchmark that is there to be
            measured on alone, and a setting that no benchmark has.
    """
    if source.source in BENCHMARKS:
        return _benchmark(source, is_test=is_test, data_dir=data_dir)
    found = load_problems(
        source.source,
        problem_column=source.problem_column,
        answer_column=source.answer_column,
        kind=source.kind,
        split=source.split,
        limit=source.limit,
        on_error=source.on_error,  # type: ignore[arg-type] # checked by the loader
        config=source.config,
        size=source.size,
        seed=source.seed,
    )
    notes = []
    if found.skipped:
        notes.append(f"{found.source}: {found.skipped} faulty rows left out, the first: {found.complaints[0]}")
    return list(found.problems), notes


def _benchmark(source: DataSource, *, is_test: bool, data_dir: Path | None) -> tuple[list[Problem], list[str]]:
    name = source.source
    if other := sorted(set_fields(source).keys() - {"source", "limit", "seed"}):
        raise UserError(
            f"data {name}: a benchmark has no {', '.join(other)}, only limit and seed; leave it out, or name its file"
        )
    if not is_test and BENCHMARKS[name].group != "training":
        sets = ", ".join(entry.name for entry in BENCHMARKS.values() if entry.group == "training")
        raise UserError(
            f"data {name}: a benchmark to measure on, with no training split; train on {sets}, or name a file"
        )
    found = load_benchmark(name, data_dir=data_dir, limit=source.limit, seed=source.seed, is_test=is_test)
    notes = [f"{name}: {found.skipped} faulty rows left out, the first: {found.complaints[0]}"] if found.skipped else []
    return list(found.problems), notes


def _from_config(
    settings: Mapping[str, Any], config: str, name: str, limit: int | None, data_dir: Path | None
) -> NamedSet:
    heldout = settings.get("heldout")
    held_out = heldout.get("data") if isinstance(heldout, Mapping) else heldout
    value = held_out or settings.get("data")
    if not value:
        raise UserError(f"{config}: neither `heldout` nor `data` names any problems")
    found = _load(name, read_sources(value, f"{config}, data"), limit, is_test=bool(held_out), data_dir=data_dir)
    return replace(found, prompt=settings.get("prompt"), system=settings.get("system"))


def _load(
    name: str, sources: Sequence[DataSource], limit: int | None, *, is_test: bool = True, data_dir: Path | None = None
) -> NamedSet:
    problems: list[Problem] = []
    notes: list[str] = []
    for source in sources:
        more, said = load_source(source, is_test=is_test, data_dir=data_dir)
        problems += more
        notes += said
    kept = tuple(replace(problem, key=key) for key, problem in enumerate(problems[:limit]))
    return NamedSet(name, kept, notes=tuple(notes))
