r"""Mathematical answers: an explicit final answer, compared by `masa.grading.math_rules`.

What strings and numbers alone can tell is told here; the rest goes to processes that are killed at their time limit
(`masa.grading.pool`), since Math-Verify's own alarm works in the main thread only, and some inputs hang in C all the
same.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

from masa.grading.answers import after_thinking, extract_final_answer, last_boxed
from masa.grading.math_rules import Verdict, compare, quick
from masa.grading.pool import MathJob, shared_pool
from masa.grading.settings import MathSettings
from masa.records import Grade

Case = tuple[str, str | Sequence[str], MathSettings]
"""A text, its gold answer or answers, and how they compare."""

_NO_ANSWER = "no final answer stated"
_REMEMBERED = 16_384


def grade_math(text: str, gold: str | Sequence[str], settings: MathSettings | None = None) -> Grade:
    r"""Whether the final answer that `text` states equals `gold`.

    Args:
        text: a whole completion. Without an explicit final answer (`masa.grading.answers`) it is wrong.
        gold: the bare answer, or a text that states it; of several forms one is enough.

    Never raises, whatever the model wrote.
    """
    return grade_math_many([(text, gold, settings or MathSettings())])[0]


def grade_math_many(cases: Sequence[Case]) -> list[Grade]:
    """One grade a case, in their order; what needs Math-Verify is compared by several processes at a time."""
    grades: list[Grade | None] = []
    jobs: dict[MathJob, list[int]] = {}
    for place, (text, gold, settings) in enumerate(cases):
        golds = tuple(bare_gold(one) for one in ([gold] if isinstance(gold, str) else gold))
        if settings.pattern:  # a pattern of the user's may take for ever
            job = MathJob(text, golds, stated=False, settings=settings)
        else:
            answer = extract_final_answer(text)
            if answer is None:
                grades.append(Grade(correct=False, extracted=None, reason=_NO_ANSWER))
                continue
            verdict = _quick_of_all(answer, golds, settings)
            if verdict is not None:
                grades.append(Grade(verdict[0], answer, verdict[1]))
                continue
            job = MathJob(answer, golds, stated=True, settings=settings)
        grades.append(None)
        jobs.setdefault(job, []).append(place)
    for job, grade in zip(jobs, _compared(list(jobs)), strict=True):
        for place in jobs[job]:
            grades[place] = grade
    return [grade for grade in grades if grade is not None]


def grade_here(text: str, golds: Sequence[str], stated: bool, settings: MathSettings) -> tuple[bool, str | None, str]:
    """A grade as plain values, in this process, for as long as it takes."""
    answer = text if stated else find_answer(text, settings)
    if answer is None:
        return False, None, _NO_ANSWER
    verdict: Verdict = (False, "there is no gold answer")
    for gold in golds:
        verdict = compare(answer, gold, settings)
        if verdict[0]:
            break
    return verdict[0], answer, verdict[1]


def find_answer(text: str, settings: MathSettings) -> str | None:
    """The final answer that a text states: the last box, the settings' own form, or one of the common forms."""
    if settings.pattern:
        text = after_thinking(text)
        boxed = last_boxed(text)
        if boxed is not None:
            return boxed
        matches = re.findall(settings.pattern, text)
        if matches and matches[-1].strip():
            return str(matches[-1]).strip()
    return extract_final_answer(text)


@lru_cache(maxsize=4096)
def bare_gold(gold: str) -> str:
    r"""The gold answer of a text that states it (`\boxed`, `####`), or the text."""
    stated = extract_final_answer(gold) if "\\boxed" in gold or "####" in gold or "\n" in gold.strip() else None
    return gold if stated is None else stated


def _quick_of_all(answer: str, golds: Sequence[str], settings: MathSettings) -> Verdict | None:
    verdicts = [quick(answer, gold, settings) for gold in golds]
    right = next((verdict for verdict in verdicts if verdict is not None and verdict[0]), None)
    if right is not None or (verdicts and None not in verdicts):
        return right or verdicts[-1]
    return None if verdicts else (False, "there is no gold answer")


def equal_math_many(pairs: Sequence[tuple[str, str, MathSettings]]) -> list[bool | None]:
    """Whether two bare answers are equal, by the rules that compare an answer with its gold; one entry a pair.

    None where the comparison came to no end: it ran into its time limit, or ended its process.
    """
    found: list[bool | None] = []
    jobs: dict[MathJob, list[int]] = {}
    for place, (answer, other, settings) in enumerate(pairs):
        verdict = quick(answer, other, settings)
        found.append(None if verdict is None else verdict[0])
        if verdict is None:
            jobs.setdefault(MathJob(answer, (other,), stated=True, settings=settings), []).append(place)
    for job, grade in zip(jobs, _compared(list(jobs)), strict=True):
        for place in jobs[job]:
            found[place] = None if _is_unsettled(grade) else grade.correct
    return found


_verdicts: OrderedDict[MathJob, Grade] = OrderedDict()


def _compared(jobs: Sequence[MathJob]) -> list[Grade]:
    """Grades by the pool, or those that it gave before: rollouts of one problem often state the same answer."""
    known = {job: grade for job in jobs if (grade := _verdicts.get(job)) is not None}
    new = [job for job in jobs if job not in known]
    for job, grade in zip(new, shared_pool().map(new) if new else [], strict=True):
        known[job] = grade
        if not _is_unsettled(grade):
            _verdicts[job] = grade
    while len(_verdicts) > _REMEMBERED:
        try:
            _verdicts.popitem(last=False)
        except KeyError:  # another thread was quicker
            break
    return [known[job] for job in jobs]


def _is_unsettled(grade: Grade) -> bool:
    """Whether the verdict is about the machine and not about the answer."""
    return grade.reason.startswith(("time limit", "the comparison ended"))
