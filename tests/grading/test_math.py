"""Mathematical grading: cases by hand, settings, and what must not hang."""

from __future__ import annotations

import threading
import time

import pytest

from masa.errors import UserError
from masa.grading import MathSettings, grade
from masa.grading.math_rules import compare, quick


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("42", "42"),
        ("042", "42"),
        ("27", "27.0"),
        ("1,200", "1200"),
        ("1200", "1,200"),
        ("10 000", "10000"),
        ("$5", "5"),
        ("\u22122", "-2"),
        ("1/2", "0.5"),
        (r"\dfrac{1}{2}", r"\frac12"),
        (r"\frac{2}{4}", "1/2"),
        (r"90^\circ", "90"),
        (r"\text{Friday}", "friday"),
        ("x+1", "1+x"),
        (r"3 \text{ cm}", "3"),
        ("x=5", "5"),
        ("(1, 2)", r"\left(1,2\right)"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
        ("1.5e3", "1500"),
        (r"3 \times 10^{8}", "300000000"),
        (r"1 \pm \sqrt{19}", r"1 - \sqrt{19}, 1 + \sqrt{19}"),
        (r"f(x) = 2x, f(x) = \frac{R_{\odot}}{2}", r"f(x)=\frac{1}{2} R_{\odot}, f(x)=2x"),
        (r"I_{\max} = \frac{q_0}{2}", r"\frac12 q_0"),
        (r"x \in [-2,7]", r"-2 \\le x \\le 7"),
        (r"1-\frac{1}{\mathrm{e}}", r"1-\frac1e"),
        ("18", "work\nmore 48/2=<<48/2=24>>24\n#### 18"),
    ],
)
def test_equal(answer: str, gold: str) -> None:
    verdict = grade(rf"so it is \boxed{{{answer}}}", gold)
    assert verdict.correct, verdict


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("41", "42"),
        ("0.5", "0.51"),
        ("Firday", "Friday"),
        (r"\text{on}", r"\text{no}"),
        ("(2, 1)", "(1, 2)"),
        ("1,2", "12"),
        ("5", "x=6"),
        ("1/0", "1"),
        ("-3", "3"),
        (r"1+\frac{1}{\mathrm{e}}", r"1-\frac1e"),
        (r"12 \unknown{x}", "12"),
        ("2 3", "23"),
        ("-x = -1", "x = -1"),
        ("y = 3", "x = 3"),
        ("$f(x)=-1$, $f(x)=x-1$", "$f(x)=-1$, $f(x)=x+1$"),
        ("$1$, $2$", "$1$, $3$"),
        ("a=1, b=2", "a=2, b=1"),
        ("x<3", "3"),
        ("(1,2]", "(1,2)"),
        ("3 x y z @ q", "3"),
        (r"2 \pi A R_{\odot}^2", "2"),
        ("1, 2", "1, 2, 3"),
    ],
)
def test_different(answer: str, gold: str) -> None:
    assert not grade(rf"\boxed{{{answer}}}", gold).correct


def test_an_answer_must_be_stated() -> None:
    verdict = grade("7 times 6 makes 42", "42")
    assert not verdict.correct
    assert verdict.extracted is None
    assert verdict.reason == "no final answer stated"


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^9}}",
        "10^{10^{10}}",
        "2**10**10",
        "7^7^7^7",
        "99999999!",
        "((9!)!)!",
        r"\binom{1000000000}{500000000}",
        "9" * 5000,
        "9" * 1900,
        "1e999999999",
        "(" * 1500,
        "{" * 1500,
        r"\frac{" * 300,
        "\x00\ud800",
        "1/" + "0" * 400,
    ],
)
def test_pathological_answers_end_soon(answer: str) -> None:
    start = time.perf_counter()
    assert not compare(answer, "3")[0]
    assert time.perf_counter() - start < 8  # one time limit at most; the guarded ones take no time


def test_several_gold_answers() -> None:
    assert grade(r"\boxed{1+x}", ["2", "x+1"]).correct
    assert grade(r"\boxed{2}", ["2", "x+1"]).correct
    assert not grade(r"\boxed{3}", ["2", "x+1"]).correct
    assert grade(r"\boxed{3}", []).reason == "there is no gold answer"


@pytest.mark.parametrize(
    ("answer", "gold", "settings", "correct"),
    [
        ("105", "100", MathSettings(relative_tolerance=0.05), True),
        ("94.9", "100", MathSettings(relative_tolerance=0.05), False),
        ("0.002", "0.003", MathSettings(absolute_tolerance=0.001), True),
        (r"\frac{\sqrt{2}}{2}", "0.71", MathSettings(relative_tolerance=0.01), True),
        (r"\frac{\sqrt{2}}{2}", "0.71", MathSettings(), False),
        ("(0.6, 2.67]", r"(\frac35, \frac83]", MathSettings(absolute_tolerance=0.01), True),
        ("(0.6, 2.67)", r"(\frac35, \frac83]", MathSettings(absolute_tolerance=0.01), False),
        ("5.234, 0.002", "0.003, 5.233", MathSettings(absolute_tolerance=0.001), True),
        ("2, 1", "1, 2", MathSettings(), True),
        ("2, 1", "1, 2", MathSettings(ordered_lists=True), False),
        ("1, 2", "1, 2", MathSettings(ordered_lists=True), True),
        ("(2, 1)", "(1, 2)", MathSettings(relative_tolerance=0.1), False),
        (r"\text{so [3], then [4]}", "4", MathSettings(pattern=r"\[(\d+)\]"), False),
    ],
)
def test_settings(answer: str, gold: str, settings: MathSettings, correct: bool) -> None:
    verdict = grade(rf"\boxed{{{answer}}}", gold, settings=settings)
    assert verdict.correct is correct, verdict


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        ("3.52", True),
        (r"3.5 \times 10^{-19}", True),
        (r"3.52 \times 10^{-19} \text{ J}", True),
        (r"3.52 \cdot 10^{-19} \mathrm{~J}", True),
        ("3.5e-19", True),
        (r"3.52 \times 10^{-19}\,\mathrm{J}", True),
        ("3.52 J", True),
        (r"3.52 \times 10^{-20}", False),
        (r"3.52 \times 10^{19}", False),
        ("4.5", False),
    ],
)
def test_a_power_of_ten_in_the_unit(answer: str, correct: bool) -> None:
    settings = MathSettings(relative_tolerance=0.05, unit=r"$10^{-19} \mathrm{~J}$")
    verdict = grade(rf"\boxed{{{answer}}}", "3.52", settings=settings)
    assert verdict.correct is correct, verdict


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        (r"5 \text{ J or } 300 \text{ J}", False),
        (r"300 \text{ J or } 5 \text{ J}", False),
        (r"x = 5 \text{ m or } x = 300 \text{ m}", False),
        (r"\frac{10}{2} \text{ m or } 5 \text{ m}", True),
        (r"5 \text{ or so}", True),
    ],
)
@pytest.mark.parametrize("settings", [MathSettings(), MathSettings(relative_tolerance=0.05, unit="J")])
def test_several_numbers_with_units_are_no_answer(answer: str, correct: bool, settings: MathSettings) -> None:
    assert grade(rf"\boxed{{{answer}}}", "5", settings=settings).correct is correct


def test_the_tasks_own_answer_form() -> None:
    settings = MathSettings(pattern=r"\[([^\[\]]*)\]")
    assert grade("First [3], but the angle is [45 degrees].", "45", settings=settings).correct
    assert not grade("The angle is 45", "45", settings=settings).correct
    assert not grade("a" * 30 + "!", "45", settings=MathSettings(pattern="^(a+)+$")).correct  # killed, not waited for


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"relative_tolerance": -1}, "at least 0"),
        ({"absolute_tolerance": float("inf")}, "finite"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "x"}, "one group"),
    ],
)
def test_settings_are_checked(values: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        MathSettings(**values)


@pytest.mark.parametrize("answer", ["7", "7.0", "-7", "1/2", "0.50", "1e3", "1,000", "seven", r"\text{no}", "(1,2)"])
@pytest.mark.parametrize("gold", ["7", "1/2", "1000", "Seven", "no", "-7.00", "(1, 2)"])
def test_the_quick_verdict_is_math_verifys(answer: str, gold: str) -> None:
    import math_verify

    verdict = quick(answer, gold, MathSettings())
    words = any(character.isalpha() for character in (answer + gold).replace("e3", ""))
    if verdict is not None and not words:  # it takes words for products of letters, and 1e3 for one
        answer = answer.replace("1e3", "1000")
        parsed = [math_verify.parse(f"${side}$") for side in (gold, answer)]
        assert verdict[0] is math_verify.verify(*parsed)


def test_works_off_the_main_thread() -> None:
    verdicts: list[bool] = []
    thread = threading.Thread(target=lambda: verdicts.append(grade(r"\boxed{\frac{6}{4}x}", r"\frac{3x}{2}").correct))
    thread.start()
    thread.join()
    assert verdicts == [True]
