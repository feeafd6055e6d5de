"""Multiple choice: letters, texts of options, and no credit for several."""

from __future__ import annotations

import pytest

from masa.errors import UserError
from masa.grading import ChoiceSettings, MathSettings, grade

SEVEN = tuple(f"{letter}) the {word} one" for letter, word in zip("ABCDEFG", "abcdefg", strict=True))
COLOURS = ("red", "blue", "red and blue", "None of the above")


def verdict(text: str, gold: str, options: tuple[str, ...] = COLOURS) -> bool:
    return grade(text, gold, "choice", ChoiceSettings(options)).correct


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "(B)",
        "B.",
        "B)",
        "blue",
        "Blue.",
        r"\boxed{B}",
        r"\boxed{(B)}",
        r"\boxed{\text{B}}",
        r"\boxed{\textbf{(B)}}",
        r"\boxed{\text{(B) blue}}",
        r"\boxed{blue}",
        "Answer: B",
        "Answer: (B) blue",
        "Answer: (B) blue, not A",
        "Answer: (B) blue, a colour",
        "The answer is B. blue",
        "The answer is B because it is.",
        "**Final Answer:** B",
        "The correct option is B.",
        "The correct option is: **(B)**",
        "<answer>B) blue</answer>",
        "A is wrong, so \\boxed{B}",
        "<think>The answer is A</think>\nThe answer is B",
        r"\boxed{\text{Option B}}",
    ],
)
def test_right(text: str) -> None:
    assert verdict(text, "B")
    assert not verdict(text, "A")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A or B",
        r"\boxed{A, B}",
        r"\boxed{A}, \boxed{B}",
        r"\boxed{A and B}",
        "Answer: (A) and (B)",
        "Answer: A/B",
        "Answer: B) blue or A) red",
        "Answer: B) blue and (A)",
        "It could be B",
        "blue, or maybe not",
        r"\boxed{A}",
        r"\boxed{red}",
        "Answer: B) red",
        r"\boxed{B. C. D}",
        r"\boxed{B: A: C}",
        r"\boxed{B) A}",
        r"\boxed{B) a}",
        "Answer: B) blue - C",
        "Answer: B) red and blue",
        "The answer is B?",
        r"\boxed{E}",
        r"\boxed{ABCD}",
        r"\boxed{B",
        "Both A and B are blue",
    ],
)
def test_wrong(text: str) -> None:
    assert not verdict(text, "B")


def test_an_option_may_name_two_things() -> None:
    assert verdict(r"\boxed{red and blue}", "C")
    assert verdict("none of the above", "D")


def test_a_letter_in_the_options_own_text_is_no_other_option() -> None:
    options = ("vitamin A", "vitamin B", "a dog")
    assert verdict("Answer: B) vitamin B, as said.", "B", options)
    assert verdict("Answer: A) vitamin A, of course", "A", options)
    assert not verdict("Answer: B) vitamin A", "B", options)
    assert not verdict("Answer: A) dark blue", "A", ("blue", "dark blue"))


def test_seven_options_with_their_own_labels() -> None:
    assert verdict("Answer: G", "G", SEVEN)
    assert verdict(r"\boxed{the g one}", "G", SEVEN)
    assert verdict(r"\boxed{G) the g one}", "G", SEVEN)
    assert not verdict(r"\boxed{H}", "G", SEVEN)


def test_options_that_are_letters_or_alike() -> None:
    assert verdict(r"\boxed{A}", "A", ("B", "A"))  # the letter asked for, not the text of the second option
    assert not verdict(r"\boxed{A}", "B", ("B", "A"))
    assert verdict(r"\boxed{A) B}", "A", ("B", "A"))
    assert not verdict(r"\boxed{same}", "A", ("same", "same"))
    assert verdict(r"\boxed{A}", "A", ("same", "same"))


def test_without_options_only_letters_count() -> None:
    assert grade("Answer: C", "C", "choice").correct
    assert not grade("Answer: blue", "C", "choice").correct
    assert grade("Answer: C", "blue", "choice").reason.startswith("the gold answer")


def test_gold_by_text() -> None:
    assert verdict(r"\boxed{B}", "blue")


def test_settings_of_another_kind_are_refused() -> None:
    with pytest.raises(UserError, match="cannot use MathSettings"):
        grade("B", "B", "choice", MathSettings())


@pytest.mark.parametrize("part", ["(A) ", "A or ", "\\text{", "answer is ", "B) "])
def test_long_texts_cost_little(part: str) -> None:
    assert not verdict(part * 20_000, "C")


def test_however_an_option_is_named_it_is_one_ballot():
    settings = ChoiceSettings(("red", "blue"))
    said = ["Answer: B", r"\boxed{(B)}", "The answer is B) blue", "Answer: blue"]
    assert {grade(text, "B", "choice", settings).extracted for text in said} == {"B"}
