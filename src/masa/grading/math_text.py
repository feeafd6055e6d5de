r"""Mathematical answers as text: what never matters is taken away, numbers are read exactly, lists are taken apart.

Everything here is linear in the text's length, or bounded by `MAX_LENGTH`, and evaluates nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_LENGTH = 2000
"""Characters of an answer that is still parsed."""
MAX_DIGITS = 300
"""Digits of a number that is still compared as a number."""
MAX_EXPONENT = 10_000
MAX_DEPTH = 40
"""Brackets inside brackets; the parser's time grows steeply with them."""

_LARGE_EXPONENT = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*[-+]?\s*(\d+)")
_TOWER = re.compile(r"(?:\^|\*\*)\s*[{(]*\s*[-+]?\s*(\d+)\s*[})]*\s*(?:\^|\*\*)\s*[{(]*\s*[-+]?\s*(\d+)")
_LARGE_FACTORIAL = re.compile(r"\d{4,}\s*[)}]*\s*!|!\s*[)}]*\s*!")
_LARGE_BINOMIAL = re.compile(r"(?:binom|choose)\D{0,20}\d{6,}")

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_QUOTIENT = re.compile(r"([-+]?)(?:\\frac\{(\d+)\}\{(\d+)\}|\\frac(\d)(\d)|(\d+)/(\d+))")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")

_POWER_OF_TEN = r"10\^(?:\{([-+]?\d{1,3})\}|([-+]?\d{1,3}))"
_SCIENTIFIC = re.compile(
    rf"([-+]?(?:\d+\.?\d*|\.\d+))(?:(?:\\times|\\cdot|\*|\u00d7|x){_POWER_OF_TEN}|[eE]([-+]?\d{{1,3}}))?"
)
_UNIT_POWER = re.compile(_POWER_OF_TEN)

# Commands that models write with two backslashes inside JSON and raw strings; a line break before them says nothing.
_DOUBLED = re.compile(r"\\\\(?=(?:d?frac|sqrt|pi|leq?|geq?|in|cup|cap|infty|cdot|times|text|left|right|pm)(?![a-z]))")
_NAME = r"[A-Za-z](?:_\{?(?:[A-Za-z0-9]+|\\[A-Za-z]+\s*)\}?)?'?(?:\((?:[A-Za-z]|\\[a-z]+)(?:,\s*[A-Za-z])*\))?"
_NAMED = re.compile(
    rf"\s*(?:\\[A-Za-z]+(?=[\s_(=])|{_NAME})(?:_\{{[^{{}}=]*\}})?(?:\([^()=]*\))?\s*=\s*([^=<>$]+)", re.DOTALL
)
_COMMAND_SUBSCRIPT = re.compile(r"_(?:\{\s*\\([A-Za-z]+)\s*\}|\\([A-Za-z]+))")
_DOLLARS = re.compile(r"(?<!\\)\$[^$]*(?<!\\)\$")
_BETWEEN_FORMULAS = re.compile(r"(?:[\s,;.]|and\b|or\b)*")
_ROMAN_LETTER = re.compile(r"\\(?:mathrm|rm)\s*\{([a-z])\}")
_ROMAN = re.compile(r"\\(?:mathrm|rm|operatorname|text)\s*\{([A-Za-z]{1,3})\}")


class Parts(NamedTuple):
    """A list, tuple, set or interval taken apart."""

    items: list[str]
    brackets: str
    """The outer brackets, without backslashes, or nothing."""


def normal(answer: str) -> str:
    """The answer without what never matters: math delimiters, spacing, kinds of fraction, a full stop."""
    text = answer.strip().replace("\u2212", "-")
    if len(text) > MAX_LENGTH:
        return text
    for escaped in ("\\$", "$", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\left", "\\right", "\\(", "\\)", "\\[", "\\]"):
        # \left also begins \leftarrow: replacing inside it harms no comparison, both sides lose the same.
        text = text.replace(escaped, " " if escaped == "\\ " else "")
    text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = text.replace("^\\circ", "").replace("^{\\circ}", "").replace("\u00b0", "")
    text = _TEXT_COMMAND.sub(lambda match: match[1], text).strip().removesuffix(".").strip()
    text = re.sub(r"(?<=\d)\s*degrees?$", "", text)
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "").replace(" ", "")
    if _WORDS.fullmatch(text):
        return " ".join(text.split())
    # 2 3 is not 23.
    return "".join(_BETWEEN_DIGITS.sub("\0", text).split()).replace("\0", " ")


def plain(answer: str) -> str:
    r"""The answer as Math-Verify reads it best: no doubled backslashes, subscripts in one script, `\pm` as a list."""
    text = answer
    if "$" in text and _BETWEEN_FORMULAS.fullmatch(_DOLLARS.sub("", text)):
        # Several formulas side by side are one list; left apart, Math-Verify would settle for one of them.
        text = text.replace("$", "")
    if "\\begin" not in text:
        text = _DOUBLED.sub(lambda _: "\\", text)
    text = _ROMAN_LETTER.sub(lambda match: match[1], text)
    if "_" in text:
        text = _ROMAN.sub(lambda match: match[1], text)
        text = _COMMAND_SUBSCRIPT.sub(lambda match: f"_{{{match[1] or match[2]}}}", text)
    if text.count("\\pm") == 1 and "," not in text and len(text) < 200:
        body = text.strip().removeprefix("$").removesuffix("$")
        name, found, value = body.rpartition("=")
        body = value if found and len(name.strip()) <= 3 else body
        text = ", ".join(body.replace("\\pm", sign) for sign in "+-")
    return text


def number(text: str) -> Fraction | None:
    """An integer, decimal, number in scientific form or quotient of integers as an exact number."""
    if len(text) > MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(text):
        return Fraction(text.removesuffix("."))
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific is not None:
        return _scientific(scientific)[0]
    quotient = _QUOTIENT.fullmatch(text)
    if quotient is None:
        return None
    sign, *groups = quotient.groups()
    above, below = (int(group) for group in groups if group is not None)
    return None if below == 0 else Fraction(-above if sign == "-" else above, below)


def number_with_unit(answer: str, unit: str) -> tuple[Fraction, bool] | None:
    """A number, also in scientific form, that the unit may follow; and whether it has a power of ten of its own."""
    text, tail = _bare_unit(answer), _bare_unit(_UNIT_POWER.sub("", "".join(unit.split())))
    text = text.removesuffix(tail) if tail else text
    match = _SCIENTIFIC.fullmatch(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text))
    return None if match is None else _scientific(match)


def _scientific(match: re.Match[str]) -> tuple[Fraction, bool]:
    exponent = next((group for group in match.groups()[1:] if group is not None), None)
    return Fraction(match[1]) * Fraction(10) ** int(exponent or 0), exponent is not None


def _bare_unit(text: str) -> str:
    text = normal(text).replace("\\mathrm", "").replace("\\text", "").replace("~", "").replace("\\cdot", "\\times")
    text = text.replace("\\%", "%")
    # Braces group an exponent, and nothing else that matters here.
    return re.sub(r"(?<!\^)\{([^{}]*)\}", r"\1", text.replace("^{", "\0")).replace("\0", "^{")


def unit_power(unit: str) -> int:
    """Exponent of the power of ten in a unit; 0 without one."""
    match = _UNIT_POWER.search("".join(unit.split()))
    return int(next(group for group in match.groups() if group is not None)) if match else 0


def parts(answer: str) -> Parts:
    r"""An answer at its outer commas; `\{1, 2\}`, `(1, 2]` and `1, 2` have two parts, `x` has one."""
    text = answer.strip()
    if len(text) > MAX_LENGTH:
        return Parts([text], "")
    text = re.sub(r"\\(?:left|right)(?![a-z])", "", text).replace("\\{", "{").replace("\\}", "}")
    text = re.sub(r"\s*\\text\s*\{\s*(?:and|or)\s*\}\s*|\s+(?:and|or)\s+", ",", text).replace(",,", ",")
    inner = text.strip("$ ")
    outer = inner[:1] + inner[-1:]
    pieces = _split(inner[1:-1]) if outer in ("()", "(]", "[)", "[]", "{}") else None
    if pieces is not None and len(pieces) > 1:
        return Parts(pieces, outer)
    pieces = _split(text)
    return Parts(pieces if pieces is not None and len(pieces) > 1 else [text], "")


def _split(text: str) -> list[str] | None:
    """Pieces between the commas that stand in no brackets; None if brackets close that were not opened."""
    depth, pieces, current = 0, [], ""
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
        if character in ",;" and depth == 0:
            pieces.append(current)
            current = ""
        else:
            current += character
    pieces.append(current)
    return [piece.strip().strip("$ ") for piece in pieces if piece.strip("$ ")]


def without_name(answer: str, gold: str) -> tuple[str, str] | None:
    """Both without a leading `f(x) =`, where one has it; None if neither has."""
    mine, theirs = (_NAMED.fullmatch(text.strip().strip("$")) for text in (answer, gold))
    if mine is None and theirs is None:
        return None
    # Two different names say different things, and an equation is more than its right side.
    if mine is None or theirs is None:
        if "=" in (answer if mine is None else gold):
            return None
    elif _named(answer) != _named(gold):
        return None
    return (mine[1] if mine else answer), (theirs[1] if theirs else gold)


def _named(text: str) -> str:
    return normal(text.partition("=")[0])


def is_word(raw: str, normal_form: str) -> bool:
    """Whether an answer is prose: letters that were marked as text, or too many of them for a product."""
    if not _WORDS.fullmatch(normal_form):
        return False
    marked = _TEXT_COMMAND.search(raw) is not None
    return sum(character.isalpha() for character in normal_form) >= (2 if marked else 4)


def refusal(answer: str) -> str | None:
    """Why an answer is not parsed at all, or None."""
    if len(answer) > MAX_LENGTH:
        return f"the answer is longer than {MAX_LENGTH} characters"
    exponents = (match[1] for match in _LARGE_EXPONENT.finditer(answer))
    if any(len(digits) > 6 or int(digits) > MAX_EXPONENT for digits in exponents):
        return f"the answer has an exponent above {MAX_EXPONENT}"
    for match in _TOWER.finditer(answer):
        base, exponent = match[1], match[2]
        if len(base) > 6 or len(exponent) > 3 or int(base) ** int(exponent) > MAX_EXPONENT:
            return f"the answer has an exponent above {MAX_EXPONENT}"
    brackets, powers = _depths(answer)
    if brackets > MAX_DEPTH:
        return "the answer has too many brackets inside brackets"
    if powers > 3:
        return "the answer is a tower of powers"
    if _LARGE_FACTORIAL.search(answer) or _LARGE_BINOMIAL.search(answer):
        return "the answer has too large a factorial or binomial"
    return None


def _depths(answer: str) -> tuple[int, int]:
    """How many brackets stand inside each other, and how many powers on top of each other, at most."""
    depth = deepest = brackets = 0
    levels: list[int] = []
    for character in answer.replace("**", "^"):
        if character == "^":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "{([":
            levels.append(depth)
            brackets = max(brackets, len(levels))
        elif character in "})]":
            depth = levels.pop() if levels else 0
        elif character in "+-*/=,; " and (not levels or depth > levels[-1]):
            depth = levels[-1] if levels else 0
    return brackets, deepest
