r"""Which answer a text states: found by rules, never guessed from the last number.

A final answer is, in this order,
1. the last `\boxed{...}` whose braces are balanced (boxes joined by commas or "and" count as one list);
2. the last `<answer>...</answer>`;
3. the last statement at line level: `#### 42`, `Answer: 42`, `The final answer is 42.`;
4. the whole text, if it is nothing but one number (`x = 3` too) or one formula in math delimiters.
Where a text closes its reasoning with `</think>`, only what follows counts. A text that was cut before it stated
an answer has none. Every rule is linear in the text's length.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_THINK_END = "</think>"

# A backslash takes the next character with it, so that \{ and \} are no braces.
_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\boxed\s+(?P<bare>-?\d+(?:\.\d+)?)|\\.|[{}]", re.DOTALL)
_JOINT = re.compile(r"(?:[\s$,;]|\\[()\[\],;!]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|and\b|or\b|&)*")
_MAX_JOINT = 60

_TAG = re.compile(r"<(?P<end>/?)answer>", re.IGNORECASE)
_STATEMENT = re.compile(
    r"^[ \t]*####[ \t]*|\b(?:final[ \t]+)?answer[*_ \t]*(?:is\b[ \t]*(?P<is>:?)|:|=)[*_ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_HEADING = re.compile(r"^[#*_ \t]*(?:final[ \t]+)?answer[*_: \t]*$", re.IGNORECASE | re.MULTILINE)
_NOT_SPACE = re.compile(r"\S")
_MAX_STATEMENT = 2000
"""Characters of a statement that are looked at, so that many long ones cost no quadratic time."""

_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[,;]?\s(?:because|since|which|so|as)\b", re.IGNORECASE)
NUMBER = r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?"
_ONE_NUMBER = re.compile(rf"(?:[A-Za-z]\s*=\s*)?\$?(?=[-+\u2212.\d])(?:{NUMBER})(?:/\d+)?%?\.?")


def extract_final_answer(text: str) -> str | None:
    r"""The answer that `text` states, without box, tag and dollar signs, or None if it states none.

    Never raises, whatever the model wrote.
    """
    text = after_thinking(text)
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    return _tagged(text) or _last_statement(text) or _whole_text(text)


def after_thinking(text: str) -> str:
    """What follows the reasoning, where a text closes it with `</think>`, else all of it."""
    return text.rpartition(_THINK_END)[2]


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{...}`, or of the run of boxes that ends with it, joined by commas.

    Boxes that are empty or not closed do not count.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    run = [boxes[-1]]
    for previous in reversed(boxes[:-1]):
        gap = run[-1].start - previous.end
        if gap > _MAX_JOINT or not _JOINT.fullmatch(text, previous.end, run[-1].start):
            break
        run.append(previous)
    return ", ".join(text[box.content : box.content_end].strip() for box in reversed(run))


class _Box(NamedTuple):
    """Where a box stands in its text."""

    start: int
    end: int
    content: int
    content_end: int


def _boxes(text: str) -> list[_Box]:
    """Every closed, non-empty box that stands in no other one, in order."""
    open_braces: list[tuple[int, int] | None] = []  # of a box: its start and its content's; of another brace: None
    boxes: list[_Box] = []
    for match in _TOKEN.finditer(text):
        token, here = match[0], match.start()
        if match["bare"] is not None:
            boxes.append(_Box(here, match.end(), match.start("bare"), match.end()))
        elif token == "{":
            open_braces.append(None)
        elif token.endswith("{") and len(token) > 2:
            open_braces.append((here, match.end()))
        elif token == "}" and open_braces and (opened := open_braces.pop()) is not None:
            start, content = opened
            inner = boxes[-1] if boxes and boxes[-1].start >= content else None
            if inner is None:
                if text[content:here].strip():
                    boxes.append(_Box(start, match.end(), content, here))
            elif text[content : inner.start].strip() or text[inner.end : here].strip():
                while boxes and boxes[-1].start >= content:
                    boxes.pop()
                boxes.append(_Box(start, match.end(), content, here))
            else:  # nothing but a box: its content is the answer
                boxes[-1] = inner._replace(start=start, end=match.end())
    return boxes


def _tagged(text: str) -> str | None:
    """Content of the last `<answer>...</answer>` with something in it."""
    start, found = None, None
    for match in _TAG.finditer(text):
        if not match["end"]:
            start = match.end()
        elif start is not None:
            found, start = text[start : match.start()].strip() or found, None
    return found


def _last_statement(text: str) -> str | None:
    starts = [match.end() for match in _HEADING.finditer(text)]
    # Only a colon announces that the answer stands below: "see what the answer is" does not.
    starts += [
        match.end()
        for match in _STATEMENT.finditer(text)
        if match["is"] != "" or text[match.end() : match.end() + 1] not in ("", "\n")
    ]
    for start in sorted(starts, reverse=True):
        begin = _NOT_SPACE.search(text, start)
        answer = _trim(text[begin.start() : begin.start() + _MAX_STATEMENT]) if begin else None
        if answer:
            return answer
    return None


def _trim(statement: str) -> str | None:
    """The answer that a text begins with: one formula, or what stands before the sentence's or line's end."""
    math = _MATH.match(statement.lstrip("*_ \t"))
    if math:
        return next(group for group in math.groups() if group is not None).strip() or None
    line = statement.partition("\n")[0].strip().strip("*_").strip()
    if re.match(r"not\b", line, re.IGNORECASE):
        return None
    end = _SENTENCE_END.search(line)
    if end and end[0] == "?":  # it asks, and states nothing
        return None
    if end:
        line = line[: end.start()]
    return line.strip().strip("*_`").strip() or None


def _whole_text(text: str) -> str | None:
    text = text.strip()
    if _ONE_NUMBER.fullmatch(text) and any(character.isdigit() for character in text):
        return text.removesuffix(".")
    math = _MATH.match(text)
    if math and math.end() == len(text) and "\n" not in text:
        return next(group for group in math.groups() if group is not None).strip() or None
    return None
