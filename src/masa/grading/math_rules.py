r"""Whether two mathematical answers are equal: exact strings and numbers, then Math-Verify, then part by part.

`quick` is cheap and safe anywhere; `compare` may take any time and memory, and runs in a process that can be killed
(`masa.grading.pool`). Where `quick` has a verdict, `compare` has the same.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

from masa.grading import math_text
from masa.grading.math_text import MAX_LENGTH, normal, number, parts
from masa.grading.settings import MathSettings

Verdict = tuple[bool, str]
"""Whether right, and why."""

EQUAL, DIFFERS = "equals the gold answer", "differs from the gold answer"
_MAX_PARTS = 30
_ALTERNATIVE = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s*\{[^{}]*(?<![A-Za-z])or(?![A-Za-z])[^{}]*\}")
_READ_AS_TEXT = re.compile(r"[\s$]*[-+]?[\d.,]+[\s$%]*")

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns once a process that it has no time limit


def quick(answer: str, gold: str, settings: MathSettings) -> Verdict | None:
    """The verdict on what can be told from strings and numbers alone, or None."""
    mine, theirs = normal(answer), normal(gold)
    if not mine or not theirs:
        return False, "the answer is empty" if theirs else "the gold answer is empty"
    if mine == theirs:
        return True, EQUAL
    my_number, their_number = number(mine), number(theirs)
    if my_number is not None and their_number is not None:
        if my_number == their_number:
            return True, "equals the gold answer as a number"
        if _near(my_number, their_number, settings):
            return True, "equals the gold answer within the tolerance"
        if not settings.unit and my_number.denominator == their_number.denominator == 1:
            return False, DIFFERS
    if math_text.is_word(answer, mine) or math_text.is_word(gold, theirs):
        # As a formula, a word is a product of letters, which may change places.
        same = mine.casefold() == theirs.casefold()
        return same, EQUAL if same else DIFFERS
    refusal = math_text.refusal(answer)
    return None if refusal is None else (False, refusal)


def compare(answer: str, gold: str, settings: MathSettings = MathSettings()) -> Verdict:  # noqa: B008 - frozen
    """The verdict on two bare answers. Never raises, but may never return."""
    try:
        return _compare(answer, gold, settings, depth=0)
    except Exception as error:  # SymPy and the parser raise anything
        return False, f"the comparison failed ({type(error).__name__})"


def _compare(answer: str, gold: str, settings: MathSettings, depth: int) -> Verdict:
    verdict = quick(answer, gold, settings)
    if verdict is not None:
        return verdict
    if settings.unit:
        verdict = _with_unit(answer, gold, settings)
        if verdict is not None:
            return verdict
    answer, gold = math_text.plain(answer), math_text.plain(gold)
    verdict = quick(answer, gold, settings)
    if verdict is not None:
        return verdict
    mine, theirs = parts(answer), parts(gold)
    listed = len(mine.items) > 1 or len(theirs.items) > 1
    # Math-Verify would settle for one of several numbers with units: 5 J or 300 J.
    several = [one for one in _ALTERNATIVE.split(answer) if any(map(str.isdigit, one))]
    if len(several) > 1 and depth < 3 and number(normal(gold)) is not None:
        same = all(_compare(one, gold, settings, depth + 1)[0] for one in several)
        return same, EQUAL if same else "the answer names several"
    if listed and settings.ordered_lists and not mine.brackets and not theirs.brackets:
        return _by_parts(mine, theirs, settings, depth)
    verdict = _verify(answer, gold)
    if verdict[0]:
        return verdict
    if _has_tolerance(settings) and _near_values(answer, gold, settings):
        return True, "equals the gold answer within the tolerance"
    # Math-Verify reads no part of a list where it cannot read all, and knows no tolerance in lists.
    if listed and depth < 3:
        by_parts = _by_parts(mine, theirs, settings, depth)
        if by_parts[0]:
            return by_parts
    bare = math_text.without_name(answer, gold)
    return _compare(*bare, settings, depth + 1) if bare is not None and depth < 3 else verdict


def _by_parts(mine: math_text.Parts, theirs: math_text.Parts, settings: MathSettings, depth: int) -> Verdict:
    """Lists in any order, unless the settings say otherwise; tuples and intervals in their order."""
    if len(mine.items) != len(theirs.items) or len(mine.items) > _MAX_PARTS or mine.brackets != theirs.brackets:
        return False, DIFFERS
    ordered = settings.ordered_lists if not mine.brackets else mine.brackets != "{}"
    equal = [
        [
            _compare(one, other, settings, depth + 1)[0]
            for other in (theirs.items if not ordered else [theirs.items[row]])
        ]
        for row, one in enumerate(mine.items)
    ]
    same = all(row[0] for row in equal) if ordered else _is_perfect_matching(equal)
    return same, "equals the gold answer part by part" if same else DIFFERS


def _is_perfect_matching(equal: Sequence[Sequence[bool]]) -> bool:
    """Whether each row can have a column of its own (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, fits in enumerate(equal[row]):
            if fits and column not in seen:
                seen.add(column)
                if column not in owner or place(owner[column], seen):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(equal)))


def _with_unit(answer: str, gold: str, settings: MathSettings) -> Verdict | None:
    """Compares numbers whose unit is known; None where one of the two is no number."""
    their_number = number(normal(gold))
    stated = math_text.number_with_unit(answer, settings.unit)
    if their_number is None or stated is None:
        return None
    value, has_power = stated
    power = math_text.unit_power(settings.unit)
    # With the unit's power of ten multiplied in, or in the unit itself.
    wanted = [their_number * Fraction(10) ** power] + ([] if has_power and power else [their_number])
    if any(value == one or _near(value, one, settings) for one in wanted):
        return True, "equals the gold answer in its unit"
    return False, DIFFERS


def _near(mine: Fraction, theirs: Fraction, settings: MathSettings) -> bool:
    """Exact, so that a difference of just the tolerance is within it."""
    relative, absolute = Fraction(str(settings.relative_tolerance)), Fraction(str(settings.absolute_tolerance))
    return abs(mine - theirs) <= max(relative * abs(theirs), absolute)


def _has_tolerance(settings: MathSettings) -> bool:
    return settings.relative_tolerance > 0 or settings.absolute_tolerance > 0


def _near_values(answer: str, gold: str, settings: MathSettings) -> bool:
    mine, theirs = _value(answer), _value(gold)
    if mine is None or theirs is None:
        return False
    slack = 1e-12 * max(abs(mine), abs(theirs))
    return abs(mine - theirs) <= max(settings.relative_tolerance * abs(theirs), settings.absolute_tolerance) + slack


def _value(answer: str) -> float | None:
    for expression in _parse(answer):
        try:
            value = float(expression)
        except (TypeError, ValueError, OverflowError, AttributeError):
            continue
        if math.isfinite(value):
            return value
    return None


def _verify(answer: str, gold: str) -> Verdict:
    """Math-Verify's verdict."""
    import math_verify

    expected = _parse(gold)
    if not expected:
        return False, "the gold answer cannot be read as mathematics"
    found = _parse(answer)
    if not found:
        return False, "the answer cannot be read as mathematics"
    same = math_verify.verify(expected, found, timeout_seconds=None, allow_set_relation_comp=True)
    return bool(same), "equals the gold answer mathematically" if same else DIFFERS


@lru_cache(maxsize=4096)
def _parse(answer: str) -> list[Any]:
    """SymPy expressions of a bare answer; cached, since a group's rollouts share gold and often answers."""
    import math_verify

    if len(answer) > MAX_LENGTH:
        return []
    formula = answer if "$" in answer or "\\(" in answer or "\\[" in answer else f"${answer}$"
    found = list(math_verify.parse(formula, parsing_timeout=None))
    if any(isinstance(one, str) for one in found) and not _READ_AS_TEXT.fullmatch(answer):
        # Where LaTeX cannot be read, Math-Verify takes the first number in it, which is not what was answered.
        as_formula = math_verify.parse(formula, [math_verify.LatexExtractionConfig()], parsing_timeout=None)
        if not any(not isinstance(one, str) for one in as_formula):
            return [one for one in found if isinstance(one, str)]
    return found
