"""YAML as plain values, where the text may be anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from masa.errors import UserError

MAX_DEPTH = 64
"""Mappings and lists inside each other; no settings of ours have ten."""
MAX_VALUES = 100_000
"""Values, each alias counted as often as it stands: a few lines of aliases of aliases say more than memory holds."""

# PyYAML raises whatever Python does for a date, number or tag that it recognises and cannot convert.
_REFUSALS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class _Loader(yaml.SafeLoader):
    """The safe loader, which would look at every open bracket again at each token: it stops where there are many."""

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError("it is nested too deeply")
        super().fetch_flow_collection_start(token)


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """The settings in a file; `what` it is, for errors.

    Raises:
        UserError: for a file that cannot be read or is no mapping.
    """
    try:
        values = read_plain_yaml(path.read_bytes())
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}): check the path") from None
    except ValueError as error:
        raise UserError(f"{what} {path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{what} {path} must be a mapping of settings")
    return {str(key): value for key, value in values.items()}


def read_plain_yaml(text: bytes | str) -> Any:
    """The value that a YAML text holds.

    Raises:
        ValueError: if it is not YAML, nested too deeply, holds itself, or repeats itself without measure.
    """
    try:
        value = yaml.load(text.decode("utf-8") if isinstance(text, bytes) else text, _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except _REFUSALS as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"it has a date, number or tag that stands for nothing ({why})") from None
    _measure(value)
    return value


def _measure(value: Any) -> None:
    """Refuses what could not be walked through; each level is looked at as a whole, without recursion."""
    seen, level = 0, [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for one in level:
            if isinstance(one, Mapping):
                following += one.values()
            elif isinstance(one, list | tuple | set):
                following += one
            if seen + len(following) > MAX_VALUES:
                raise ValueError(f"its aliases stand for more than {MAX_VALUES} values")
        if not following:
            return
        seen, level = seen + len(following), following
    raise ValueError("it is nested too deeply")
