"""Figures of one problem's answers: pass@k without bias, and what a majority vote would have said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?")


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k answers is right, estimated from n >= k answers of which c are.

    1 - C(n - c, k) / C(n, k), the unbiased estimator of arXiv 2107.03374 (equation 1): the share of all choices of k
    of the n answers that hold a right one. The plug-in 1 - (1 - c/n)^k is biased.

    Raises:
        ValueError: unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n:
        raise ValueError(f"pass@k needs 0 <= c <= n, got {c} right answers of {n}")
    if not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n, got k = {k} of {n} answers")
    all_wrong = 1.0
    for i in range(k):  # C(n-c, k) / C(n, k) as a product, since the binomials themselves overflow a float
        all_wrong *= (n - c - i) / (n - i)
        if all_wrong <= 0:
            return 1.0
    return 1.0 - all_wrong


def majority_correct(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Chance that a majority vote over the answers is right, maj@n: ties are broken by lot.

    Answers vote by their final answer as it was extracted; those without one do not vote. Equal numbers are one
    answer however they are written (`1,000` and `1000.0`); other texts must be equal but for spaces. With tied winners
    the value is the mean over them; 0 if nobody votes.

    Args:
        answers: final answers, None where a text states none.
        correct: whether each is right.
    """
    votes: dict[str, list[bool]] = {}
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is not None:
            votes.setdefault(_ballot(answer), []).append(is_correct)
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    winners = [marks for marks in votes.values() if len(marks) == most]
    # A grader that looks at more than the final answer may judge equal answers differently: their share then counts.
    return sum(sum(marks) / len(marks) for marks in winners) / len(winners)


def _ballot(answer: str) -> str:
    text = "".join(answer.split())
    bare = text.strip("$").removesuffix(".")
    if _NUMBER.fullmatch(bare):
        return str(Fraction(bare.replace(",", "")))
    return text
