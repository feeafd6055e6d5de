"""Where problems come from, as config files say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from masa.checks import wrong_types
from masa.errors import UserError, unknown_key_message
from masa.runs import RUN_KEY
from masa.yaml_values import read_mapping

DEFAULT_CONFIG = Path(__file__).with_name("default.yaml")


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where problems come from: a benchmark's name, or arguments of `masa.tasks.dataset.load_problems`."""

    source: str
    size: int = 512
    """Problems to make, of procedural sources."""
    seed: int = 0
    config: dict[str, Any] | str | None = None
    split: str | None = None
    limit: int | None = None
    kind: str | None = None
    problem_column: str = "problem"
    answer_column: str = "answer"
    on_error: str = "raise"
    """`raise` or `skip` for faulty rows."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a config file, unchecked.

    Raises:
        UserError: for a file that cannot be read or is no mapping.
    """
    values = read_mapping(path, "config")
    values.pop(RUN_KEY, None)  # a run folder's own config.yaml is a config too, but for its notes
    return values


def read_sources(value: Any, name: str) -> list[DataSource]:
    """Sources as a config file names them: a text or a mapping, or a list of these; `name` is for errors.

    Raises:
        UserError: for what is no source, unknown settings (the nearest one is named) and wrong types.
    """
    items = value if isinstance(value, list) else [value]
    return [_source(item, name) for item in items]


def _source(item: Any, name: str) -> DataSource:
    if isinstance(item, str):
        return DataSource(source=item)
    if not isinstance(item, Mapping) or "source" not in item:
        raise UserError(f"{name}: give a file, a Hub id or a task, or a mapping with `source`; got {item!r}")
    known = [f.name for f in fields(DataSource)]
    for key in item:
        if key not in known:
            raise UserError(unknown_key_message(f"setting of {name}", str(key), known))
    refuse_wrong_types(item, DataSource, name)
    return DataSource(**item)


def refuse_wrong_types(values: Mapping[str, Any], owner: type, where: str) -> None:
    """Refuse values that do not suit the fields of `owner`.

    Raises:
        UserError: naming all of them and where they stand.
    """
    if wrong := wrong_types(values, owner):
        raise UserError(f"{where}: {'; '.join(wrong)}")


def set_fields(source: DataSource) -> dict[str, Any]:
    """A source's settings that differ from their defaults."""
    return {
        f.name: getattr(source, f.name)
        for f in fields(source)
        if f.name == "source" or getattr(source, f.name) != f.default
    }
