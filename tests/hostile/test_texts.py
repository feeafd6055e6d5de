"""Whatever a model writes: its prediction and its answer are read without an exception, in linear time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest
from hostile_texts import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.awareness import find_prediction, parse_prediction
from masa.errors import UserError
from masa.grading import ChoiceSettings, MathSettings, extract_final_answer, grade
from masa.grading.math_rules import quick

PIECES = [
    *("{", "}", "[", "]", "(", ")", ":", ",", '"', "\\", "$", "$$", "^", "_", "*", "\n", " ", "\t", ".", "!", "-", "/"),
    *('{"', '"pass_rate": ', '"solution_length": ', '"math_notion": [', "</meta>", "NaN", "Infinity", "1e999"),
    "\\ud800",
    *("\\boxed{", "\\boxed 3", "\\text{", "\\frac{", "<answer>", "</answer>", "</think>", "Answer: ", "####"),
    "answer is ",
    *("(A)", "B) ", "C", " and ", "correct option is ", "yes", "12", "0", "1,000", "10^{3}", "1j", "'", "9" * 400),
    *("\u202e", "\u2066", "\ud800", "\udfff", "\x00", "\u0663", "\u2212", "\u00b2", "\u0130", "\u017f", "\u2028"),
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.text(st.characters(), max_size=60),  # lone surrogates among them
)


def read_everything(text: str) -> None:
    said = parse_prediction(text, max_length=4096, min_length=2)
    assert said.pass_rate is None or 0 <= said.pass_rate <= 1
    assert said.length is None or 2 <= said.length <= 4096
    for notion in said.notions or ():
        notion.encode()
    found = find_prediction(text)
    assert found is None or text[found.start] + text[found.end - 1] == "{}"
    answer = extract_final_answer(text)
    assert answer is None or answer
    grade(text, "B", kind="choice", settings=ChoiceSettings(options=("yes", "12", "no")))
    grade(text, "C", kind="choice")
    grade(text, "[1, 2]", kind="literal")
    for chosen in (MathSettings(), MathSettings(relative_tolerance=0.1), MathSettings(unit="10^{3} km")):
        quick(text, "12", chosen)
        quick("1/2", text, chosen)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(TEXTS)
def test_any_text_is_read(text: str) -> None:
    read_everything(text)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(TEXTS, TEXTS)
def test_any_gold_answer_is_compared(text: str, gold: str) -> None:
    grade(text, gold, kind="literal")
    grade(text, gold, kind="choice", settings=ChoiceSettings(options=(gold, text, "no")))
    quick(text, gold, MathSettings())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_each_hostile_kind(text: str) -> None:
    read_everything(text)
    grade(text, text, kind="literal")
    grade(text, text, kind="choice", settings=ChoiceSettings(options=(text, "no")))


def test_a_huge_integer_plus_an_imaginary_number_is_no_literal() -> None:
    text = "\\boxed{" + "9" * 400 + " + 1j}"
    assert not grade(text, "1j", kind="literal").correct


@pytest.mark.parametrize("deep", ["[" * 100_000, "{" * 100_000, "({'a': [" * 1000, "[{[]: 1}, " + "9" * 400 + "+1j]"])
def test_options_that_cannot_be_read_are_no_exception(deep: str) -> None:
    from masa.grading import case_of

    case = case_of("\\boxed{A}", "A", "code", {"tests": "assert True", "choices": deep})
    assert case.kind == "code"


@pytest.mark.parametrize("tests", [5, 1.5, True, '{"cases": 5}', '{"tests": {"a": 1}}', "[" * 100_000])
def test_tests_of_programs_that_are_none_are_refused_or_python(tests: object) -> None:
    from masa.grading.code import make_tests

    with contextlib.suppress(UserError):
        make_tests(tests)  # type: ignore[arg-type]


READERS: dict[str, Callable[[str], object]] = {
    "prediction": lambda text: parse_prediction(text, max_length=4096),
    "answer": extract_final_answer,
    "choice": lambda text: grade(text, "B", kind="choice", settings=ChoiceSettings(options=("yes", "no"))),
    "literal": lambda text: grade(text, "[1, 2]", kind="literal"),
    "mathematics": lambda text: quick(text, "12", MathSettings(unit="km")),
}
REPEATED = {
    "braces": "{",
    "objects": '{"a":',
    "lists": '{"a":[',
    "beginnings": '{"',
    "spaces in objects": "{ ",
    "backslashes": "\\",
    "boxes": "\\boxed{",
    "closed boxes": "\\boxed{1}",
    "boxes and spaces": "\\boxed ",
    "tags": "<answer>",
    "closed tags": "<answer>1</answer>",
    "statements": "answer: ",
    "statements that say nothing": "Answer: not\n",
    "headings": "Answer:\n",
    "stars": "answer**",
    "hashes": "####\n",
    "dollars": "$",
    "options": "correct option is A ",
    "labels": "(B) ",
    "digits": "9",
    "thousands": ",000",
    "spaces": " ",
    "powers": "10^",
    "texts": "\\text{",
    "right-to-left marks": "\u202e",
    "surrogates": "\ud800",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_time_is_linear(reader: Callable[[str], object]) -> None:
    """Three doublings take eight times as long, where quadratic time would take 64 times as long."""
    for name, piece in REPEATED.items():
        small, large = (piece * (size // len(piece)) for size in (6_000, 48_000))
        # Of what takes under half a millisecond nothing is told by a ratio.
        long, short = min(_seconds(reader, large) for _ in range(3)), min(_seconds(reader, small) for _ in range(5))
        ratio = long / max(5e-4, short)
        assert ratio < 24, f"{name}: eight times the text took {ratio:.0f} times as long"


@pytest.mark.parametrize("piece", ["{", "}", '{"', "[", "\\boxed{", "answer: "])
def test_a_megabyte_of_one_thing(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    for name, reader in READERS.items():
        assert _seconds(reader, text) < 5, name


def _seconds(reader: Callable[[str], object], text: str) -> float:
    # Of this process and not of the clock, which other programs on the machine would slow down.
    began = time.process_time()
    reader(text)
    return time.process_time() - began
