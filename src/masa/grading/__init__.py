"""Is this answer right? Graders by kind, behind `grade` (an answer and its gold) and `grade_problems`.

Graders never raise on what a model wrote. Heavy libraries are imported when a grader first needs them.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from masa.errors import UserError, unknown_key_message
from masa.grading.answers import extract_final_answer
from masa.grading.code import CodeTests, grade_code, make_tests
from masa.grading.settings import SETTINGS, ChoiceSettings, CodeSettings, MathSettings, Settings, make_settings
from masa.records import Grade, Problem

__all__ = [
    "KINDS",
    "ChoiceSettings",
    "CodeSettings",
    "GradingCase",
    "MathSettings",
    "check_kind",
    "extract_final_answer",
    "grade",
    "grade_many",
    "grade_problem",
    "grade_problems",
]

KINDS = ("math", "choice", "literal", "code", "reasoning_gym")
"""Every kind that a problem may have."""
_OF_PROBLEMS = ("reasoning_gym",)

Gold = str | Sequence[Any] | Mapping[str, Any] | CodeTests
"""A right answer, several of them (one is enough), or the tests of a program."""


@dataclass(frozen=True, slots=True)
class GradingCase:
    """One text to grade."""

    text: str
    gold: Gold
    kind: str = "math"
    settings: Settings | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of its row: `entry_point`, `prefix`, `test_setup_code` for code; `dataset`, `entry` for reasoning-gym."""


def check_kind(kind: str, *, where: str = "") -> None:
    """Raises a UserError, naming the nearest kind, if there is no such grader."""
    if kind not in KINDS:
        raise UserError(unknown_key_message("grader kind", kind, KINDS, where=where))


def grade(prediction_text: str, gold: Gold, kind: str = "math", settings: Settings | None = None) -> Grade:
    r"""Whether a text states the gold answer.

    Args:
        prediction_text: a whole completion, or the bare answer.
        gold: the right answer, bare or as a text that states it (`\boxed{...}`, `#### ...`); of a list of them one is
            enough. For `code`, the tests: Python text, a list of asserts, a list of cases (`input`, `output`), or a
            mapping (`masa.grading.code.make_tests`).
        kind: `math` (numbers, LaTeX), `choice` (a letter or an option's text), `literal` (the same text, or the same
            Python literal) or `code` (a program that passes its tests, run isolated).
        settings: `MathSettings` (tolerance, order, unit), `ChoiceSettings` (options) or `CodeSettings` (limits).

    Raises:
        UserError: for an unknown kind, or one that needs more than a gold answer; for settings of another kind; for
            tests that are none; for code where it cannot be isolated.
    """
    check_kind(kind)
    if kind in _OF_PROBLEMS:
        raise UserError(f"grader kind {kind!r} needs the whole problem, not its answer alone: use grade_problem")
    return grade_many([GradingCase(prediction_text, gold, kind, settings)])[0]


def grade_problem(problem: Problem, text: str) -> Grade:
    """Whether a completion solves a problem, by the problem's kind; as `grade_problems`."""
    return grade_problems([problem], [text])[0]


def grade_problems(
    problems: Sequence[Problem], texts: Sequence[str], *, allow_unsafe_code: bool = False
) -> list[Grade]:
    """One grade a completion, each with its problem beside it, several at a time.

    A problem's extra columns serve its grader: `grader_settings` (a mapping), `choices` (options), and for code `tests`
    or `cases` (else the answer holds the tests), `entry_point`, `prefix`, `test_setup_code`.

    Args:
        allow_unsafe_code: run code without isolation where that cannot be had.

    Raises:
        UserError: for an unknown kind or setting, a problem without what its kind needs, or code that
            cannot be isolated.
    """
    cases = []
    for problem, text in zip(problems, texts, strict=True):
        check_kind(problem.kind)
        case = case_of(text, problem.answer, problem.kind, problem.extra, where=f"problem {problem.key}")
        if isinstance(case.settings, CodeSettings) and allow_unsafe_code:
            case = replace(case, settings=replace(case.settings, allow_unsafe=True))
        cases.append(case)
    return grade_many(cases)


def case_of(text: str, gold: Gold, kind: str, fields: Mapping[str, Any], *, where: str = "") -> GradingCase:
    """A case from a row's fields, as `grade_problems` reads them.

    Raises:
        UserError: for settings or tests that cannot be used, naming `where`.
    """
    values = _decoded(fields.get("grader_settings")) or {}
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: field 'grader_settings' must be a mapping, got {type(values).__name__}")
    values = {name: value for name, value in values.items() if value is not None}  # Arrow fills rows up with None
    if "allow_unsafe" in values:  # a data set must not be able to ask for that
        raise UserError(
            f"{where}: allow_unsafe is no setting for data: give --unsafe-code-execution, or say so in code"
        )
    options = _decoded(fields.get("choices"))
    if kind == "choice" and options:
        values = {"options": options, **values}
    if kind == "code":
        gold = _decoded(fields.get("tests") or fields.get("cases")) or gold
    try:
        settings = make_settings(kind, values) if values else None
        if kind == "code":
            gold = make_tests(gold, fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return GradingCase(text, gold, kind, settings or (CodeSettings() if kind == "code" else None), fields)


def grade_many(cases: Sequence[GradingCase]) -> list[Grade]:
    """One grade a case, in their order. Mathematics and code keep all processors busy.

    Raises:
        UserError: as `grade`.
    """
    places: dict[str, list[int]] = {}
    for place, case in enumerate(cases):
        check_kind(case.kind)
        wanted = SETTINGS.get(case.kind)
        if case.settings is not None and (wanted is None or not isinstance(case.settings, wanted)):
            raise UserError(f"grader kind {case.kind!r} cannot use {type(case.settings).__name__}")
        places.setdefault(case.kind, []).append(place)
    grades: dict[int, Grade] = {}
    for kind, where in places.items():
        grades |= dict(zip(where, _GRADERS[kind]([cases[place] for place in where]), strict=True))
    return [grades[place] for place in range(len(cases))]


def _golds(gold: Gold) -> list[str]:
    if isinstance(gold, str):
        return [gold]
    if not isinstance(gold, Sequence) or not all(isinstance(one, str | int | float) for one in gold):
        raise UserError(f"a gold answer must be a text or a list of texts, got {str(gold)[:80]!r}")
    return [str(one) for one in gold]


def _grade_math(cases: Sequence[GradingCase]) -> list[Grade]:
    from masa.grading.math import grade_math_many

    plain = MathSettings()
    return grade_math_many(
        [
            (case.text, _golds(case.gold), case.settings if isinstance(case.settings, MathSettings) else plain)
            for case in cases
        ]
    )


def _grade_choice(cases: Sequence[GradingCase]) -> list[Grade]:
    from masa.grading.choice import grade_choice

    settings = [case.settings if isinstance(case.settings, ChoiceSettings) else None for case in cases]
    return [
        _best(grade_choice(case.text, gold, one) for gold in _golds(case.gold))
        for case, one in zip(cases, settings, strict=True)
    ]


def _grade_literal(cases: Sequence[GradingCase]) -> list[Grade]:
    from masa.grading.literal import grade_literal

    return [_best(grade_literal(case.text, gold) for gold in _golds(case.gold)) for case in cases]


def _best(grades: Any) -> Grade:
    """The first right one, else the last."""
    best = Grade(correct=False, extracted=None, reason="there is no gold answer")
    for best in grades:
        if best.correct:
            break
    return best


def _grade_code(cases: Sequence[GradingCase]) -> list[Grade]:
    from masa.grading.pool import processors
    from masa.grading.sandbox import check_isolation

    jobs = []
    for case in cases:
        settings = case.settings if isinstance(case.settings, CodeSettings) else CodeSettings()
        tests = make_tests(case.gold, case.fields)
        check_isolation(settings)
        jobs.append((case.text, tests, settings))
    if len(jobs) == 1:
        return [grade_code(*jobs[0])]
    with ThreadPoolExecutor(processors()) as threads:
        return list(threads.map(lambda job: grade_code(*job), jobs))


def _grade_reasoning_gym(cases: Sequence[GradingCase]) -> list[Grade]:
    return [_grade_by_task(case) for case in cases]


def _grade_by_task(case: GradingCase) -> Grade:
    from masa.tasks import procedural

    extra = dict(case.fields)
    if "dataset" not in extra or "entry" not in extra:
        raise UserError(
            "a problem of kind 'reasoning_gym' lacks its 'dataset' and 'entry': keep these columns of its row"
        )
    answer = extract_final_answer(case.text)
    if answer is None:
        return Grade(correct=False, extracted=None, reason="no final answer stated")
    entry = _decoded(extra["entry"])
    if not isinstance(entry, Mapping):
        raise UserError("column 'entry' of a reasoning-gym problem cannot be read: keep it as the data set gave it")
    extra["entry"] = dict(entry)
    whole = Problem(0, "", "", "reasoning_gym", "", extra)
    # The bare answer may hold no box any more; some answers may still look like one, which is for `score` to say.
    correct = procedural.score(whole, answer)
    return Grade(correct, answer, "accepted by the task's own check" if correct else "refused by the task's own check")


_GRADERS: dict[str, Callable[[Sequence[GradingCase]], list[Grade]]] = {
    "math": _grade_math,
    "choice": _grade_choice,
    "literal": _grade_literal,
    "code": _grade_code,
    "reasoning_gym": _grade_reasoning_gym,
}


def _decoded(value: Any) -> Any:
    """A list or mapping as it was, also from a data set's text column; other texts as they are."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[", "(")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, OverflowError):
            return value
