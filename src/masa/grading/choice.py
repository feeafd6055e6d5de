"""Multiple choice: one letter, or the text of one option. Who names several has named none."""

from __future__ import annotations

import re

from masa.grading.answers import after_thinking, extract_final_answer
from masa.grading.settings import ChoiceSettings
from masa.records import Grade

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LABEL = re.compile(r"\s*[(\[]?\s*([A-Z])\s*[)\]:.]+\s*(?=\S)")
_WRAPPING = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|boxed)\s*\{([^{}]*)\}")
_OPENING = re.compile(
    r"^(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:option|answer|choice)\b\s*(?:is\b)?\s*[:=]?\s*", re.IGNORECASE
)
_STATEMENT = re.compile(
    r"\b(?:correct|right|best)[ \t]+(?:option|choice|statement)[*_ \t]*(?:is|:|=)[*_: \t]*"
    r"([^\n]{1,300}?)(?=[.!](?:\s|$)|\n|$)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\].:]*")
_LETTER_AND_TEXT = re.compile(r"(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z])\s*[).:])\s*[:.-]?\s*(\S.*)", re.DOTALL)
# In what stands beside the option's own text; a lone letter counts where a phrase ends with it ("B. C. D", "maybe c").
_OTHER_LABEL = re.compile(
    r"[(\[][A-Z][)\]]|\b[A-Z]\)|\b(?:and|or)\s+[A-Z]\b(?!')"
    r"|(?<!\bnot )(?<![\w'])[A-Z](?=\s*(?:[.,:;/|&]|$))|(?<![\w'])[a-z]\s*$"
)
_SEVERAL = re.compile(
    r"[(\[]?\b([A-Z])\b[)\]]?\s*(?:,|;|/|&|\+|\band\b|\bor\b|\bund\b)\s*[(\[]?\b([A-Z])\b", re.IGNORECASE
)


def grade_choice(text: str, gold: str, settings: ChoiceSettings | None = None) -> Grade:
    r"""Whether the final answer of `text` names the right option, and no other.

    Args:
        text: a whole completion (`\boxed{B}`, `Answer: (B)`, `The answer is B) blue`), or nothing but the answer.
        gold: the letter of the right option, or its text where the settings hold the options.

    Returns:
        The verdict; `extracted` is the letter of the option named, however it was named: votes for it count together.

    Never raises, whatever the model wrote.
    """
    settings = settings or ChoiceSettings()
    options = tuple(bare_option(option, place) for place, option in enumerate(settings.options))
    answer = _stated(text)
    if answer is None:
        answer = text.strip()
        # A text that is nothing but an option's letter or text states it.
        if not answer or len(answer) > 1000 or named_option(answer, options) is None:
            return Grade(correct=False, extracted=None, reason="no final answer stated")
    chosen = named_option(answer, options)
    right = _by_letter(gold, options, {}) or named_option(gold, options)
    if right is None:
        return Grade(False, chosen or answer, f"the gold answer {gold[:40]!r} names no option")
    if chosen is None:
        return Grade(correct=False, extracted=answer, reason="the answer does not name one option")
    correct = chosen == right
    return Grade(correct, chosen, f"names option {chosen}" + ("" if correct else f", right is {right}"))


def bare_option(option: str, place: int) -> str:
    """An option's text without a label of its own (`A) True`)."""
    match = _LABEL.match(option)
    return option[match.end() :].strip() if match and match[1] == LETTERS[place % 26] else option.strip()


def named_option(answer: str, options: tuple[str, ...] = ()) -> str | None:
    """The letter of the one option that an answer names, or None if it names none or several.

    Args:
        options: texts without labels; without them every letter is an option.
    """
    texts: dict[str, list[str]] = {}
    for letter, option in zip(LETTERS, options, strict=False):
        texts.setdefault(_plain(option), []).append(letter)
    whole = _plain(answer)
    by_text = texts.get(whole, [])
    # An option's text may be a letter itself (carbon, C): prompts ask for the letter of the option, so that wins.
    by_letter = _by_letter(answer, options, texts)
    return by_letter or (by_text[0] if len(by_text) == 1 else None)


def _by_letter(answer: str, options: tuple[str, ...], texts: dict[str, list[str]]) -> str | None:
    text = _unwrapped(answer)
    opening = _OPENING.match(text)
    text = text[opening.end() :] if opening else text
    match = _LETTER.fullmatch(text)
    if match is not None:
        return _known(match[1].upper(), options)
    match = _LETTER_AND_TEXT.fullmatch(text)
    if match is None:
        return None
    letter, rest = match[1] or match[2], match[3]
    if _known(letter, options) is None or letter in texts.get(_plain(rest), []):
        return _known(letter, options)
    # "B) blue, since ...": whatever follows must name no other option, by letter or by text.
    others = [text for text, letters in texts.items() if letter not in letters and len(text) > 1]
    own = next((text for text, letters in texts.items() if letter in letters), "")
    whole = f" {_plain(rest)} "
    remainder = whole.replace(own, " ", 1) if own else whole
    named = any(
        re.search(rf"(?<!\w){re.escape(text)}(?!\w)", whole if own and own in text else remainder) for text in others
    )
    beside = re.sub(re.escape(own), " ", rest, count=1, flags=re.IGNORECASE) if own else rest
    return None if named or _OTHER_LABEL.search(beside) or _SEVERAL.search(text) else letter


def _known(letter: str, options: tuple[str, ...]) -> str | None:
    return letter if not options or LETTERS.index(letter) < len(options) else None


def _stated(text: str) -> str | None:
    stated = extract_final_answer(text)
    if stated is None:
        statements = _STATEMENT.findall(after_thinking(text))
        stated = statements[-1].strip() if statements else None
    return stated


def _unwrapped(text: str) -> str:
    for _ in range(3):
        text = _WRAPPING.sub(lambda match: match[1], text)
    return text.replace("$", "").replace("\\(", "").replace("\\)", "").strip().strip("*`_\"'").strip()


def _plain(text: str) -> str:
    return " ".join(_unwrapped(text).casefold().removesuffix(".").split())
