"""From a meta rollout's text to a prediction."""

from __future__ import annotations

import re
from typing import Final

from masa.awareness.json_objects import FoundObject, Value, find_objects
from masa.awareness.prompts import PASS_RATE_STEPS
from masa.records import Prediction

END_OF_REASONING: Final = "</meta>"

MAX_NOTIONS: Final = 64
"""Notions beyond these are dropped: no problem needs more, and each costs a search through every solution."""
MAX_NOTION_CHARACTERS: Final = 200
"""A longer notion is a sentence, not a concept; it is cut here."""

_NOTION_KEY = re.compile(r"(?:[a-z]+_)*notions?")


def find_prediction(text: str, *, notion_key: str | None = None) -> FoundObject | None:
    """The JSON object that holds the prediction: the last one after the first `</meta>`, or of the whole text.

    Objects with none of the keys of a prediction do not count, so that a later `{}` or `\\boxed{}` hides nothing.
    """
    tag = text.find(END_OF_REASONING)
    start = tag + len(END_OF_REASONING) if tag >= 0 else 0
    for found in reversed(find_objects(text, start)):
        if any(key in ("pass_rate", "solution_length") or _names_notions(key, notion_key) for key in found.fields):
            return found
    return None


def parse_prediction(text: str, *, max_length: int, min_length: int = 1, notion_key: str | None = None) -> Prediction:
    """Read what a meta rollout foretells; never raises, and takes time linear in the text's length.

    The object may be laid out in any way and stand in a code fence; LaTeX backslashes in its strings are kept as they
    are. A component that is missing, of the wrong type or out of range is None; an integral float is an integer, a
    boolean is no number.

    Args:
        text: the meta rollout's text.
        max_length: the run's limit on response tokens; a longer prediction is out of range.
        min_length: least number of tokens that may be foretold.
        notion_key: a further name for the key of the notions, beside `notion`, `notions` and the same with a domain
            in front (`math_notion`, `logic_notions`); where several are there, the last one counts.

    Returns:
        `pass_rate` = integer 0..8 over 8; `length` in tokens; `notions` stripped, empty ones dropped, at most
        `MAX_NOTIONS` of at most `MAX_NOTION_CHARACTERS` characters. One item that is no string makes `notions` None.
    """
    found = find_prediction(text, notion_key=notion_key)
    if found is None:
        return Prediction()
    notions: Value = None
    for key, value in found.fields.items():
        if _names_notions(key, notion_key):
            notions = value
    steps = _integer(found.fields.get("pass_rate"), 0, PASS_RATE_STEPS)
    return Prediction(
        pass_rate=None if steps is None else steps / PASS_RATE_STEPS,
        length=_integer(found.fields.get("solution_length"), min_length, max_length),
        notions=_notions(notions),
    )


def _names_notions(key: str, notion_key: str | None) -> bool:
    return key == notion_key or _NOTION_KEY.fullmatch(key) is not None


def _integer(value: Value, low: int, high: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, float) or not low <= value <= high or not value.is_integer():
        return None
    return int(value)


def _notions(value: Value) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    notions: list[str] = []
    for item in value:
        if not isinstance(item, str):
            return None
        if (notion := item.strip()[:MAX_NOTION_CHARACTERS].rstrip()) and len(notions) < MAX_NOTIONS:
            notions.append(notion)
    return tuple(notions)
