"""Find JSON objects in a model's text: lenient about LaTeX in strings, never raising, linear in the text's length.

Python's `json` does not fit: it refuses backslashes such as `\\alpha`, reads `\\frac` as a form feed, recurses on
nested input, and gives no bound on the work when many objects begin and none ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias


class Opaque:
    """Stands for a value whose content does not matter here: an object, a nested list, an overlong number."""


OPAQUE: Final = Opaque()
Scalar: TypeAlias = "str | float | bool | Opaque | None"
Value: TypeAlias = "Scalar | list[Scalar]"


@dataclass(frozen=True, slots=True)
class FoundObject:
    """A JSON object in a text."""

    start: int
    end: int
    """Offsets: the object is `text[start:end]`."""
    fields: dict[str, Value]
    """Its own keys (the last of a repeated key wins)."""


_BEGINNING = re.compile(r'\{\s*+"')
_TOKEN = re.compile(
    r"""[ \t\r\n]*+(?:
        (?P<mark>[{}\[\],:])
      | "(?P<string>[^"\\]*+(?:\\.[^"\\]*+)*+)"
      | (?P<number>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)
      | (?P<word>true|false|null|NaN|-?Infinity)
    )""",
    re.DOTALL | re.VERBOSE,
)
# \b \f \n \r \t before a letter begin a LaTeX command (\binom, \frac, \nabla, \rho, \times) far more often than
# they are a control character inside a notion, so there the backslash stays.
_ESCAPE = re.compile(r'\\(?:(["\\/])|([bfnrt])(?![A-Za-z])|u([0-9a-fA-F]{4}))')
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NUMBER = 64
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}


def find_objects(text: str, start: int = 0) -> list[FoundObject]:
    """All outermost JSON objects with at least one key in `text[start:]`, in order.

    A beginning that leads nowhere is skipped, together with every object that was open when it failed, since those
    fail at the same place. Each character is thus read a bounded number of times.
    """
    found = []
    doomed: set[int] = set()
    position = start
    while match := _BEGINNING.search(text, position):
        position = match.start() + 1
        if match.start() in doomed:
            continue
        result = _read_object(text, match.start())
        if isinstance(result, FoundObject):
            found.append(result)
            position = result.end
        else:
            doomed.update(result)
    return found


def _read_object(text: str, start: int) -> FoundObject | list[int]:
    """The object that begins at `start`, or the beginnings of all objects left open where reading failed."""
    fields: dict[str, Value] = {}
    stack: list[tuple[str, int]] = []  # open brackets with their offsets
    key: str | None = None  # the outermost object's current key
    items: list[Scalar] = []  # the outermost object's current list
    expected = "value"
    position = start
    while match := _TOKEN.match(text, position):
        position = match.end()
        mark = match["mark"]
        if mark is None or mark in "{[":
            if expected == "key" or expected == "key or end":
                if match["string"] is None:
                    break
                if len(stack) == 1:
                    key = _unescape(match["string"])
                expected = "colon"
                continue
            if not expected.startswith("value"):
                break
            depth = len(stack)
            if depth == 1 and key is not None:
                items = []
                fields[key] = items if mark == "[" else _scalar(match)
            elif depth == 2 and stack[1][0] == "[":
                items.append(_scalar(match))
            if mark is None:
                expected = "next"
            else:
                stack.append((mark, position - 1))
                expected = "key or end" if mark == "{" else "value or end"
        elif mark == ":":
            if expected != "colon":
                break
            expected = "value"
        elif mark == ",":
            if expected != "next":
                break
            expected = "key" if stack[-1][0] == "{" else "value"
        else:
            if expected != "next" and not expected.endswith("end"):
                break
            if (mark == "}") != (stack[-1][0] == "{"):
                break
            stack.pop()
            expected = "next"
            if not stack:
                return FoundObject(start, position, fields)
    return [offset for bracket, offset in stack if bracket == "{"]


def _scalar(match: re.Match[str]) -> Scalar:
    if match["string"] is not None:
        return _unescape(match["string"])
    if (number := match["number"]) is not None:
        # Long digit strings are costly to convert, and no field of ours needs one.
        return float(number) if len(number) <= _LONGEST_NUMBER else OPAQUE
    if (word := match["word"]) is not None:
        return _WORDS.get(word, OPAQUE)
    return OPAQUE


def _unescape(raw: str) -> str:
    text = _ESCAPE.sub(_escaped, raw) if "\\" in raw else raw
    if text.isascii():
        return text
    text = _SURROGATE_PAIR.sub(lambda m: m[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _SURROGATE.sub("\ufffd", text)  # a lone surrogate could not be written to a file


def _escaped(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    return _CONTROL[match[2]] if match[2] else chr(int(match[3], 16))
