"""What a benchmark's row is asked with, and how its answer is graded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LETTERS = "ABCDEFGHIJ"
BOXED = "Think step by step, and put the final answer in \\boxed{}."

_MANY_TESTS = {"seconds": 60.0, "memory_mb": 4096}
"""EvalPlus runs up to a thousand inputs a program, some of them large."""

Extra = dict[str, Any]
Asked = tuple[str, Extra]
"""The prompt, and what the grader needs (`masa.grading.grade_problems`)."""


def mathematics(row: Mapping[str, Any]) -> Asked:
    """A question whose answer is a number or formula."""
    return f"{row['problem']}\n\n{BOXED}", {}


def olympiad(row: Mapping[str, Any]) -> Asked:
    """As mathematics; the unit is not part of the answer, `error` is an absolute tolerance."""
    settings: Extra = {}
    unit = row.get("unit")
    several = " Separate several answers by commas." if row.get("is_multiple_answer") else ""
    tolerance = _single_number(row.get("error"))
    if tolerance:
        settings["absolute_tolerance"] = tolerance
    if unit:
        settings["unit"] = str(unit)
    asked = f" The unit of the answer is {unit}, which is not part of it." if unit else ""
    return f"{row['problem']}\n\n{BOXED}{several}{asked}", {"grader_settings": settings} if settings else {}


def science(row: Mapping[str, Any]) -> Asked:
    """SciBench: within 5 %, in the unit that the row names, which may hold a power of ten."""
    unit = str(row.get("unit") or "").strip()
    settings: Extra = {"relative_tolerance": 0.05}
    if unit:
        settings["unit"] = unit
    problem = " ".join(str(row["problem"]).split())
    shown = unit if "$" in unit else f"${unit}$"
    asked = f" The unit of the answer is {shown}; give the number alone." if unit else ""
    return f"{problem}\n\n{BOXED}{asked}", {"grader_settings": settings}


def choice(row: Mapping[str, Any]) -> Asked:
    """A question with options, from 2 to 10, with the text it is about before it."""
    context = f"{row['context']}\n\n" if row.get("context") else ""
    options = [bare_option(str(option), place) for place, option in enumerate(row["choices"])]
    listed = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
    asked = "Think step by step, and put the letter of the right option in \\boxed{}."
    return f"{context}{row['problem']}\n\n{listed}\n\n{asked}", {"choices": options}


def bare_option(option: str, place: int) -> str:
    """An option without a label of its own."""
    return re.sub(rf"^\s*\(?{LETTERS[place]}[).:]\s*", "", option).strip()


def completion(row: Mapping[str, Any]) -> Asked:
    """HumanEval: the head of a function, to be completed."""
    prompt = (
        f"Complete this Python function. Give the whole function in one code block.\n\n```python\n{row['problem']}```"
    )
    extra = {"tests": row["tests"], "entry_point": row["entry_point"], "prefix": row["problem"]}
    return prompt, {**extra, "grader_settings": _MANY_TESTS}


def program(row: Mapping[str, Any]) -> Asked:
    """MBPP: a sentence that does not name the function, so that a test must be shown."""
    tests = row.get("test_list") or row["tests"]
    shown = tests if isinstance(tests, str) else "\n".join(tests)
    task = str(row["problem"]).strip().strip("'\"").strip()
    prompt = f"{task}\n\nYour Python code must pass these tests:\n\n```python\n{shown.strip()}\n```\n\n"
    extra = {name: row[name] for name in ("tests", "entry_point", "test_setup_code") if row.get(name)}
    if row.get("test_list"):  # EvalPlus, where the tests shown are not all
        extra["grader_settings"] = _MANY_TESTS
    return f"{prompt}Give the whole program in one code block.", extra


def output(row: Mapping[str, Any]) -> Asked:
    """CRUXEval-O: what a call returns, as a Python literal."""
    prompt = (
        f"```python\n{row['problem']}\n```\n\nWhat does `f({row['input']})` return? Think step by step, and give the "
    )
    return f"{prompt}value as a Python literal between <answer> and </answer>.", {}


def contest(row: Mapping[str, Any]) -> Asked:
    """LiveCodeBench: a program that reads standard input, or a method of the class that the row begins."""
    extra = {name: row[name] for name in ("tests", "cases", "entry_point") if row.get(name)}
    start = row.get("starter_code")
    how = (
        f"Go on from this, and keep its names:\n\n```python\n{start}\n```\n\n"
        if start
        else "Read the input from standard input and write the answer to standard output. "
    )
    return f"{row['problem']}\n\n{how}Give the whole Python program in one code block.", extra


def _single_number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
