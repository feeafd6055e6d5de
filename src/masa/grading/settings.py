"""What a grader is told beyond answer and gold, one frozen record a kind."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from masa.errors import UserError, unknown_key_message


@dataclass(frozen=True, slots=True)
class MathSettings:
    """How mathematical answers compare.

    Raises:
        UserError: for a negative tolerance, or a pattern that is no regular expression with one group.
    """

    relative_tolerance: float = 0.0
    """Numbers, also inside lists, tuples and intervals, may differ by this share of the gold number."""
    absolute_tolerance: float = 0.0
    """... or by this much."""
    ordered_lists: bool = False
    """Whether `1, 2` differs from `2, 1`. Tuples `(1, 2)` are always ordered, sets `{1, 2}` never."""
    unit: str = ""
    """The gold answer's unit. It may follow the answer or not; a power of ten in it (`10^{-3} J`) may be worked in."""
    pattern: str = ""
    """The task's own answer form, a regular expression with one group whose last match counts; a box comes first."""

    def __post_init__(self) -> None:
        for name in ("relative_tolerance", "absolute_tolerance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"grader setting {name} must be at least 0 and finite, got {getattr(self, name)!r}")
        if self.pattern:
            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                raise UserError(f"grader setting pattern is no regular expression ({error})") from None
            if groups != 1:
                raise UserError(f"grader setting pattern must have one group, {self.pattern!r} has {groups}")


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """The options of a multiple-choice problem."""

    options: tuple[str, ...] = ()
    """Their texts, A first; a label of their own (`A) True`) is dropped. Without them only letters are understood."""


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """Limits on a program and its tests.

    Raises:
        UserError: for a limit that is not positive.
    """

    seconds: float = 10.0
    """Wall-clock time for all tests of one program."""
    memory_mb: int = 1024
    """MiB, of each process and of all together."""
    processes: int = 16
    """Processes and threads at the same time."""
    file_mb: int = 16
    """MiB of one file; /tmp holds four times as much."""
    output_kb: int = 1024
    """KiB that a program may print in one run."""
    allow_unsafe: bool = False
    """Run without isolation where it cannot be had; the limits hold all the same, nothing else does."""

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_mb", "processes", "file_mb", "output_kb"):
            if not getattr(self, name) > 0:
                raise UserError(f"grader setting {name} must be positive, got {getattr(self, name)!r}")


Settings = MathSettings | ChoiceSettings | CodeSettings

SETTINGS: dict[str, type[Settings]] = {"math": MathSettings, "choice": ChoiceSettings, "code": CodeSettings}
"""Which settings a kind takes; the other kinds take none."""


def make_settings(kind: str, values: Mapping[str, Any]) -> Settings | None:
    """Settings from plain values, as files and command lines hold them; None for none.

    Raises:
        UserError: for a setting that the kind does not have, or a value of the wrong type.
    """
    if not values:
        return None
    if kind not in SETTINGS:
        raise UserError(f"grader kind {kind!r} takes no settings, got {', '.join(values)}")
    made = SETTINGS[kind]
    known = {field.name: str(field.type) for field in fields(made)}
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise UserError(unknown_key_message(f"setting of grader kind {kind!r}", name, known))
        checked[name] = _typed(name, known[name], value)
    return made(**checked)


def _typed(name: str, wanted: str, value: Any) -> Any:
    if wanted.startswith("tuple") and isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if wanted == "bool" and isinstance(value, bool):
        return value
    if wanted == "str" and isinstance(value, str):
        return value
    if wanted in ("int", "float") and isinstance(value, int | float) and not isinstance(value, bool):
        if wanted == "float":
            return float(value)
        if value == int(value):
            return int(value)
    words = {"tuple[str, ...]": "a list of texts", "bool": "true or false", "str": "a text", "int": "a whole number"}
    raise UserError(f"grader setting {name} must be {words.get(wanted, 'a number')}, got {value!r}")
