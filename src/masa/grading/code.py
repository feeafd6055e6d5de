"""Programs, right if they pass their tests. How they are run, and what that protects from: `masa.grading.sandbox`."""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.errors import UserError
from masa.grading.answers import after_thinking
from masa.grading.sandbox import run_job
from masa.grading.settings import CodeSettings
from masa.records import Grade

MAX_LENGTH = 60_000
"""Characters of a program that is still run."""

_FENCE = re.compile(r"^[ \t]*(?P<fence>```+|~~~+)[ \t]*(?P<language>[\w+.-]*)[^\n]*$", re.MULTILINE)
_PYTHON = ("", "py", "python", "python3")


@dataclass(frozen=True, slots=True)
class CodeTests:
    """What a program has to pass: `tests` that call its functions, or `cases` of standard input and output.

    Raises:
        UserError: with neither or both, or if tests or prefix are no Python.
    """

    tests: str = ""
    """Python whose every line must run through (asserts)."""
    entry_point: str = ""
    """The function (or class) that is tested; default: the first name that the tests call."""
    prefix: str = ""
    """What the prompt begins the program with: imports, helpers, and the head of the function to continue."""
    cases: tuple[tuple[str, str], ...] = ()
    """Standard inputs, each with the output that is wanted."""

    def __post_init__(self) -> None:
        if bool(self.tests.strip()) == bool(self.cases):
            raise UserError("code needs tests or cases of input and output, and not both")
        for name, source in (("tests", self.tests), ("prefix", self.prefix)):
            if _parsed(source) is None:
                raise UserError(f"the {name} of a code problem are no Python: mend the row")

    def tested_name(self) -> str:
        """The entry point that was given, or the first name that the tests call and neither they nor Python define."""
        if self.entry_point or self.cases:
            return self.entry_point
        nodes = list(ast.walk(_parsed(self.tests) or ast.Module([], [])))
        helpers = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        helpers |= {
            alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        called = [
            node.func.id
            for node in nodes
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in helpers
        ]
        own = [name for name in called if not hasattr(builtins, name)]
        # Some problems ask for a function with a built-in's name.
        return (own or called or [""])[0]


def make_tests(
    gold: str | Sequence[Any] | Mapping[str, Any] | CodeTests, row: Mapping[str, Any] | None = None
) -> CodeTests:
    """Tests from what data sets hold.

    Args:
        gold: Python text, a list of such texts, a list of cases (`input`, `output`), or a mapping of the fields below.
        row: fields beside it: `entry_point`, `test_setup_code`, `prefix`.

    Raises:
        UserError: if there is nothing to test with.
    """
    if isinstance(gold, CodeTests):
        return gold
    stated: Any = gold
    fields = dict(row or {})
    if isinstance(stated, str) and stated.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError, RecursionError):  # or it is Python
            stated = json.loads(stated)
    if isinstance(stated, Mapping):
        fields |= stated
        stated = stated.get("tests") or stated.get("cases") or ""
    entry = str(fields.get("entry_point") or "")
    prefix = str(fields.get("prefix") or "")
    if isinstance(stated, str):
        tests = stated
    elif not isinstance(stated, Sequence):
        raise UserError(f"tests must be a text or a list, got {str(stated)[:80]!r}")
    elif all(isinstance(test, str) for test in stated):
        tests = "\n".join(stated)
    else:
        return CodeTests(cases=tuple(_case(case) for case in stated), prefix=prefix)
    setup = str(fields.get("test_setup_code") or "")
    # Tests in HumanEval's form define a function and leave it to the caller to call it.
    if entry and re.search(r"^def check\(", tests, re.MULTILINE) and not re.search(r"^check\(", tests, re.MULTILINE):
        tests += f"\n\ncheck({entry})\n"
    return CodeTests(f"{setup}\n{tests}".replace("\r\n", "\n"), entry, prefix)


def _case(case: Any) -> tuple[str, str]:
    if isinstance(case, Mapping) and isinstance(case.get("input"), str) and isinstance(case.get("output"), str):
        return case["input"], case["output"]
    if isinstance(case, list | tuple) and len(case) == 2 and all(isinstance(part, str) for part in case):
        return case[0], case[1]
    raise UserError(f"a case of a code problem needs the texts 'input' and 'output', got {str(case)[:80]!r}")


def grade_code(text: str, tests: CodeTests, settings: CodeSettings | None = None) -> Grade:
    """Whether the program in `text` passes.

    Args:
        text: a whole completion with its program in a closed code block (the last that defines the entry point, or the
            last), or nothing but the program, or what follows the prefix.

    Raises:
        UserError: where code cannot be isolated, unless the settings allow to run it all the same.
    """
    settings = settings or CodeSettings()
    entry = tests.tested_name()
    code = extract_code(text, entry, tests.prefix)
    if code is None:
        return Grade(correct=False, extracted=None, reason="no program stated")
    whole = _whole(code, entry, tests.prefix)
    if whole is None:
        return Grade(correct=False, extracted=code, reason="the program is no valid Python")
    job = {
        "code": whole,
        "tests": tests.tests,
        "prefix": tests.prefix,
        "entry_point": entry,
        "cases": tests.cases,
    }
    passed, reason = run_job(job, settings)
    return Grade(correct=passed, extracted=code, reason=reason)


def extract_code(text: str, entry_point: str = "", prefix: str = "") -> str | None:
    """The program that a text states, or None. A code block that is not closed was cut, and does not count."""
    text = after_thinking(text)
    blocks = list(_blocks(text))
    if blocks:
        named = [block for block in blocks if entry_point and _defines(block, entry_point)]
        return (named or blocks)[-1]
    if "```" in text or not text.strip() or len(text) > MAX_LENGTH:
        return None
    return text if _whole(text, entry_point, prefix) is not None else None


def _blocks(text: str) -> list[str]:
    """Contents of the closed code blocks in Python or in no language."""
    blocks: list[str] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match["fence"].startswith(opened["fence"]) and not match["language"]:
            if opened["language"].casefold() in _PYTHON:
                blocks.append(text[opened.end() + 1 : match.start()])
            opened = None
    return [block for block in blocks if block.strip()]


def _whole(code: str, entry_point: str, prefix: str) -> str | None:
    """The program to run: after the prefix, unless there is none; None if it is no Python."""
    if len(code) > MAX_LENGTH:
        return None
    # "\n" between the two would end a line that the prompt leaves to be completed; most prompts end with one.
    if not prefix:
        candidates = [code]
    elif entry_point and _defines(code, entry_point):
        candidates = [f"{prefix}\n{code}", code]
    else:
        candidates = [prefix + code, f"{prefix}\n{code}"]
    return next((candidate for candidate in candidates if _parsed(candidate) is not None), None)


def _defines(code: str, name: str) -> bool:
    return (
        re.search(rf"^(?:async\s+def|def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.M) is not None
    )


def _parsed(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in foreign strings
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
