"""204 cases of ten libraries, which do not all agree: where we depart from them and from Math-Verify, and why."""

from __future__ import annotations

from typing import Any

import pytest
from shared_data import rows

from masa.grading.math import bare_gold, find_answer
from masa.grading.math_rules import Verdict, compare
from masa.grading.settings import MathSettings

DEPARTURES = {
    "math-verify_6": "1,22 is the number 1.22 only where commas are decimal; here a comma groups or lists",
    "math-verify_12": "'the number is not 10 which is 1,000.99' states no answer; its last number is a guess",
    "math-verify_28": "9 equals 9: the library's test is about what its LaTeX reader overlooks",
    "math-verify_29": "9 equals 9: the library's test is about what its LaTeX reader overlooks",
    "math-verify_136": "prose that ends without a box or statement states no answer",
    "math-verify_151": "the stated answer is the sentence 'Jane started growing Sphere 3 hours ago', not 3",
    "math-verify_167": "the last box holds 255, an intermediate result: a box outranks a sentence",
    "math-verify_182": "x in [-2, 7] and -2 <= x <= 7 say the same (its test is about an option that forbids it)",
    "math-verify_211": "the gold is an unclosed box, and the names W(n) and W(x) differ",
    "math-verify_256": "1 + 1/e is not 1 - 1/e",
    "hendrycks_8": "4, .1, 2 and 0.1, 4, 2 are the same values in no order; strings differ (ordered_lists would tell)",
    "slime_6": "2/4 is 1/2",
    "areal_33": "'3+2' alone is a step, not a stated answer",
}
"""Cases whose expectation we do not meet."""

MATH_VERIFY_DIFFERS = {
    **{
        name: DEPARTURES[name]
        for name in DEPARTURES
        if name.startswith("math-verify") and name[12:] not in ("28", "29")
    },
    "areal_33": DEPARTURES["areal_33"],
    "math-verify_134": "Math-Verify rounds to decimals; a tolerance is ours (`absolute_tolerance`)",
    "olympiadbench_31": "as before",
    "olympiadbench_34": "as before",
    "math-verify_181": "doubled backslashes, and a set against an inequality, are read",
    "olympiadbench_5": "a name before the equals sign is not part of the answer, also with a subscript",
    "olympiadbench_23": "subscripts that are commands or in roman type are read",
    "hendrycks_6": "an escaped dollar sign is a unit of money",
    "rllm_3": "the same text is the same answer, whether it can be parsed or not",
    "areal_6": "the task's own answer form, in brackets (`pattern`)",
    "areal_21": "as before",
    "areal_22": "as before",
    "trl_7": "a box inside the reasoning is not the final answer",
    "open-instruct_1": "+7 is 7",
}
"""Cases on which Math-Verify alone, given both texts, has another verdict."""


_VERDICTS: dict[str, Verdict] = {}


def _settings(case: dict[str, Any]) -> MathSettings:
    given = case["settings"]
    values: dict[str, Any] = {}
    if "precision" in given:
        precision = given["precision"]
        if case["id"].startswith("olympiadbench"):  # absolute, one a list entry in some cases
            values["absolute_tolerance"] = max(precision) if isinstance(precision, list) else precision
        else:  # Math-Verify's is in decimals
            values["absolute_tolerance"] = 10.0**-precision
    if given.get("scorer") == "geometry3k_reward_fn":
        values["pattern"] = r"\[([^\[\]]*)\]"
    return MathSettings(**values)


def _ours(case: dict[str, Any]) -> Verdict:
    """Our verdict; a case's prediction is a bare answer where the case does not say that it is a response."""
    if case["id"] not in _VERDICTS:
        _VERDICTS[case["id"]] = _judged(case)
    return _VERDICTS[case["id"]]


def _judged(case: dict[str, Any]) -> Verdict:
    settings = _settings(case)
    answer = find_answer(case["prediction"], settings)
    if answer is None and not case["settings"].get("response"):
        answer = case["prediction"]
    return (False, "no final answer stated") if answer is None else compare(answer, bare_gold(case["gold"]), settings)


def test_cases_of_other_libraries() -> None:
    cases = rows("verify_cases/cases")
    missed = {case["id"] for case in cases if _ours(case)[0] is not case["equal"]}
    assert missed == set(DEPARTURES)
    assert len(cases) - len(missed) >= 190


def test_agreement_with_math_verify_alone() -> None:
    """The same verdicts, but where the list says why not; bare answers are given to it inside dollar signs."""
    math_verify = pytest.importorskip("math_verify")

    def alone(case: dict[str, Any]) -> bool:
        texts = [case["gold"], case["prediction"]]
        if not case["settings"].get("response") and not case["id"].startswith("math-verify"):
            marks = ("$", "\\boxed", "\\(", "\\[")
            texts = [text if any(mark in text for mark in marks) else f"${text}$" for text in texts]
        return math_verify.verify(*map(math_verify.parse, texts))

    differing = {case["id"] for case in rows("verify_cases/cases") if _ours(case)[0] is not alone(case)}
    assert differing == set(MATH_VERIFY_DIFFERS)


@pytest.mark.slow
def test_the_solutions_of_math_state_their_answers() -> None:
    """4,995 of 5,000: five solutions end in several boxes where only the last is the answer."""
    from masa.grading import GradingCase, grade_many

    cases = [GradingCase(row["solution"], row["answer"]) for row in rows("math/test")]
    assert sum(grade.correct for grade in grade_many(cases)) >= 4990


@pytest.mark.parametrize("name", ["math500/test", "olympiadbench/test", "aime24/test", "amc23/test", "gsm8k/test"])
def test_every_answer_equals_itself(name: str) -> None:
    from masa.grading import GradingCase, grade_many

    answers = [row["answer"] for row in rows(name)]
    grades = grade_many([GradingCase(rf"So \boxed{{{answer}}}.", answer) for answer in answers])
    assert [answer for answer, grade in zip(answers, grades, strict=True) if not grade.correct] == []
