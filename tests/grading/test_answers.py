"""Which answer a text states."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.grading import extract_final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{x = \boxed{3}}", r"x = \boxed{3}"),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{1},\quad \boxed{2}$", "1, 2"),
        (r"\boxed 5.", "5"),
        (r"open { brace, \boxed{5}", "5"),
        (r"<answer>7</answer> <answer> 8 </answer>", "8"),
        ("work\n#### 1,200", "1,200"),
        ("The answer is 42.", "42"),
        ("Therefore the answer is -3", "-3"),
        ("Final answer: 3.14. I hope", "3.14"),
        ("**Answer:** $\\frac{1}{2}$ of it", "\\frac{1}{2}"),
        ("**Final Answer**: \\(12\\)", "12"),
        ("### Final Answer\n\n\\[ 5 \\]", "5"),
        ("The answer is:\n\\[\n 7 \n\\]", "7"),
        ("answer is 5\nThe answer is 6 because 2 * 3", "6"),
        ("<think>\\boxed{1}</think>\\boxed{2}", "2"),
        ("42", "42"),
        (" -1,234.5 ", "-1,234.5"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
    ],
)
def test_explicit_answers(text: str, answer: str) -> None:
    assert extract_final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "so 3 + 4 = 7",
        "first 12 + 3",
        "12 + 3",
        r"thus \boxed{42",
        r"\boxed{}",
        r"put it in \boxed form",
        "The answer is",
        "see what the answer is\n\nfirst 5",
        "The answer is not 5",
        "Is the answer = 5? No.",
        "The answer is 5? It cannot be.",
        "<answer>12",
        "<think>\\boxed{3}</think> done",
        "1 - 2",
        "-",
        r"\(1\) and \(2\)",
    ],
)
def test_no_explicit_answer(text: str) -> None:
    assert extract_final_answer(text) is None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=r"\boxed{} $answeri:#<>/123\n*", max_size=80))
def test_never_raises(text: str) -> None:
    answer = extract_final_answer(text)
    assert answer is None or answer.strip() == answer != ""


@pytest.mark.parametrize(
    "part",
    [
        r"\boxed{",
        r"\boxed{a",
        r"{",
        r"\boxed{}",
        "<answer>",
        "answer:",
        "answer is\n",
        "answer: $",
        "#### \n",
        "\n",
        "$$",
        "\\",
    ],
)
def test_time_is_linear(part: str) -> None:
    """Ten times the text may cost ten times the time; a quadratic rule would cost a hundred times."""

    def seconds(size: int) -> float:
        text = part * (size // len(part))
        best = 9.9
        for _ in range(3):
            start = time.process_time()
            extract_final_answer(text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(200_000) < 40 * seconds(20_000) + 0.05


def test_nested_boxes_take_linear_time() -> None:
    start = time.perf_counter()
    assert extract_final_answer(r"\boxed{a" * 50_000 + "}" * 50_000) is not None
    assert time.perf_counter() - start < 5
