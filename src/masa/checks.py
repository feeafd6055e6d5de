"""Plain values against the fields they are meant for, before anything is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_PLAIN = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a mapping",
    list[float]: "a list of numbers",
    type(None): "null",
}


def wrong_types(values: Mapping[str, Any], owner: type) -> list[str]:
    """One sentence for each value that does not suit the field of its name in the dataclass `owner`.

    Only fields that take numbers, lists of them, booleans, texts, mappings and null alone are checked; others are left
    to their owners.
    """
    hints = get_type_hints(owner)
    return [
        f"{key} is {value!r}: it must be {' or '.join(_PLAIN[choice] for choice in _choices(hints[key]))}"
        for key, value in values.items()
        if key in hints and not _fits(value, _choices(hints[key]))
    ]


def _choices(hint: Any) -> tuple[Any, ...]:
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(dict if get_origin(choice) is dict else choice for choice in choices)


def _fits(value: Any, choices: tuple[Any, ...]) -> bool:
    if not all(choice in _PLAIN for choice in choices):
        return True
    if isinstance(value, bool):
        return bool in choices
    if list[float] in choices and isinstance(value, list):
        return all(_fits(item, (float,)) for item in value)
    plain = tuple(choice for choice in choices if choice != list[float])
    return isinstance(value, plain) or (isinstance(value, int) and float in choices)
