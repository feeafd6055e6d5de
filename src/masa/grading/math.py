r"""Mathematical answers: exact strings and numbers first, then Math-Verify behind our own rules.

What is guarded: the length of what is parsed, powers and factorials whose value would be huge (a single big-integer
operation cannot be interrupted), and time, by Math-Verify's own alarm. The alarm works only in the main thread of a
process on POSIX; elsewhere only the first two guards hold.
"""

from __future__ import annotations

import logging
import re
import threading
from fractions import Fraction
from functools import lru_cache
from typing import Any

from masa.grading.answers import extract_final_answer
from masa.records import Grade

MAX_LENGTH = 2000
"""Characters of an answer that is still parsed."""
MAX_DIGITS = 300
"""Digits of a number that is still compared as a number."""
MAX_EXPONENT = 10_000
MAX_DEPTH = 40
"""Brackets inside brackets; the parser's time grows steeply with them."""
TIMEOUT = 5
"""Seconds for each parse and each comparison, in the main thread."""

_LARGE_EXPONENT = re.compile(r"(?:\^|\*\*)\s*[{(]?\s*[-+]?\s*(\d+)")
_TOWER = re.compile(r"(?:\^|\*\*)\s*[{(]*\s*[-+]?\s*(\d+)\s*[})]*\s*(?:\^|\*\*)\s*[{(]*\s*[-+]?\s*(\d+)")
_LARGE_FACTORIAL = re.compile(r"\d{4,}\s*[)}]*\s*!|!\s*[)}]*\s*!")
_LARGE_BINOMIAL = re.compile(r"(?:binom|choose)\D{0,20}\d{6,}")

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:[, ]\d{3})+(?:\.\d+)?")
_DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")
_QUOTIENT = re.compile(r"([-+]?)(?:\\frac\{(\d+)\}\{(\d+)\}|\\frac(\d)(\d)|(\d+)/(\d+))")
_TEXT_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*")

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns once a process that it has no time limit


def grade_math(text: str, gold: str) -> Grade:
    r"""Whether the final answer that `text` states equals `gold`.

    Args:
        text: a whole completion. Without an explicit final answer (`masa.grading.answers`) it is wrong.
        gold: the bare answer, or a text that states it.

    Never raises, whatever the model wrote.
    """
    answer = extract_final_answer(text)
    if answer is None:
        return Grade(correct=False, extracted=None, reason="no final answer stated")
    correct, reason = compare(answer, _bare_gold(gold))
    return Grade(correct=correct, extracted=answer, reason=reason)


def compare(answer: str, gold: str) -> tuple[bool, str]:
    """Whether two bare answers are equal, and why."""
    mine, theirs = _normal(answer), _normal(gold)
    if not mine or not theirs:
        return False, "the answer is empty" if theirs else "the gold answer is empty"
    if mine == theirs:
        return True, "equals the gold answer"
    my_number, their_number = _number(mine), _number(theirs)
    if my_number is not None and their_number is not None:
        if my_number == their_number:
            return True, "equals the gold answer as a number"
        if my_number.denominator == their_number.denominator == 1:
            return False, "differs from the gold answer"
    if _is_word(answer, mine) or _is_word(gold, theirs):
        # As a formula, a word is a product of letters, which may change places.
        same = mine.casefold() == theirs.casefold()
        return same, "equals the gold answer" if same else "differs from the gold answer"
    refusal = _refusal(answer)
    if refusal is not None:
        return False, refusal
    return _verify(answer, gold)


@lru_cache(maxsize=4096)
def _bare_gold(gold: str) -> str:
    stated = extract_final_answer(gold) if "\\boxed" in gold or "####" in gold or "\n" in gold.strip() else None
    return gold if stated is None else stated


def _normal(answer: str) -> str:
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
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "").replace(" ", "")
    return " ".join(text.split()) if _WORDS.fullmatch(text) else "".join(text.split())


def _number(text: str) -> Fraction | None:
    """An integer, decimal or quotient of integers as an exact number."""
    if len(text) > MAX_DIGITS:
        return None
    if _DECIMAL.fullmatch(text):
        return Fraction(text.removesuffix("."))
    quotient = _QUOTIENT.fullmatch(text)
    if quotient is None:
        return None
    sign, *groups = quotient.groups()
    above, below = (int(group) for group in groups if group is not None)
    return None if below == 0 else Fraction(-above if sign == "-" else above, below)


def _is_word(raw: str, normal: str) -> bool:
    """Whether an answer is prose: letters that were marked as text, or too many of them for a product."""
    if not _WORDS.fullmatch(normal):
        return False
    marked = _TEXT_COMMAND.search(raw) is not None
    return sum(character.isalpha() for character in normal) >= (2 if marked else 4)


def _refusal(answer: str) -> str | None:
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


def _verify(answer: str, gold: str) -> tuple[bool, str]:
    """Math-Verify's verdict."""
    timed = threading.current_thread() is threading.main_thread()
    try:
        expected = _parse(gold, timed)
        if not expected:
            return False, "the gold answer cannot be read as mathematics"
        found = _parse(answer, timed)
        if not found:
            return False, "the answer cannot be read as mathematics"
        import math_verify

        same = math_verify.verify(expected, found, timeout_seconds=TIMEOUT if timed else None)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # SymPy and the parser raise anything; Math-Verify's timeout is no Exception
        return False, f"the comparison failed ({type(error).__name__})"
    return bool(same), "equals the gold answer mathematically" if same else "differs from the gold answer"


@lru_cache(maxsize=4096)
def _parse(answer: str, timed: bool) -> list[Any]:
    """SymPy expressions of a bare answer; cached, since a group's rollouts share gold and often answers."""
    import math_verify

    formula = answer if "$" in answer or "\\(" in answer or "\\[" in answer else f"${answer}$"
    return list(math_verify.parse(formula, parsing_timeout=TIMEOUT if timed else None))
