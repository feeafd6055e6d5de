"""Programs: which program a text states, what tests there are, and whether it passes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from shared_data import rows

from masa.errors import UserError
from masa.grading import CodeSettings, grade, grade_problem
from masa.grading.code import CodeTests, extract_code, grade_code, make_tests
from masa.grading.sandbox import isolation_fault
from masa.records import Grade, Problem

isolated = pytest.mark.skipif(isolation_fault() is not None, reason=str(isolation_fault()))

ADD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Here:\n```\nx = 1\n```\nor\n```py\nx = 2\n```\nDone.", "x = 2\n"),
        ("```python\ndef f():\n    pass\n```\nUse it:\n```python\nf()\n```", "def f():\n    pass\n"),
        ("```python\nx = 1\n```\n```bash\nls\n```", "x = 1\n"),
        ("<think>```python\nx = 1\n```</think>\n```python\nx = 2\n```", "x = 2\n"),
        ("x = 1\n", "x = 1\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
    ],
)
def test_the_program_of_a_text(text: str, code: str) -> None:
    assert extract_code(text, "f") == code


@pytest.mark.parametrize(
    "text", ["", "I do not know.", "```python\nx = 1", "```bash\nls\n```", "```python\n\n```", "("]
)
def test_no_program(text: str) -> None:
    assert extract_code(text, "f") is None


def test_the_tested_name() -> None:
    assert make_tests(["assert add(1, 2) == len('abc')"]).tested_name() == "add"
    assert make_tests("assert sum(10, 15) == 6").tested_name() == "sum"
    assert make_tests("assert sorted(f(x)) == [1]").tested_name() == "f"
    assert make_tests("from math import gcd\ndef same(a, b): assert a == b\nsame(f(gcd(2, 4)), 3)").tested_name() == "f"


@pytest.mark.parametrize("gold", ["", "assert (", [], [{"input": "1"}], [[1, 2]]])
def test_tests_that_are_none(gold: Any) -> None:
    with pytest.raises(UserError):
        make_tests(gold)


@isolated
@pytest.mark.parametrize(
    ("code", "tests", "correct"),
    [
        (ADD, "assert add(1, 2) == 3", True),
        (ADD, "assert add(1, 2) == 4", False),
        (ADD, "assert sub(1, 2) == 4", False),
        ("add = lambda a, b: a + b", "assert add([1], [2]) == [1, 2]", True),
        ("def f(x):\n    x.sort()", "x = [2, 1]\nf(x)\nassert x == [1, 2]", True),
        ("def f(x):\n    return {(1, 2): {3}, 'a': (None, 1j, b'x', 2**70, float('inf'))}", 
         "assert f(0) == {(1, 2): {3}, 'a': (None, 1j, b'x', 2**70, float('inf'))}", True),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]", True),
        ("def f(n):\n    while True:\n        yield n", "assert next(f(3)) == 3", True),
        ("def f(n):\n    return map(str, range(n))", "assert sorted(f(2)) == ['0', '1']", True),
        ("def f(x):\n    raise KeyError(x)", "try:\n    f(1)\n    assert False\nexcept KeyError:\n    pass", True),
        ("from collections import Counter as f", "assert f('aab') == {'a': 2, 'b': 1}", True),
        ("from fractions import Fraction\ndef f(x):\n    return Fraction(x, 3)", "assert f(1) * 3 == 1", True),
        ("class Node:\n    def __init__(self, v):\n        self.v, self.next = v, None\n"
         "def f(n):\n    return n.v + (f(n.next) if n.next else 0)",
         "n = Node(1)\nn.next = Node(2)\nassert f(n) == 3", True),
        ("def f(x, g):\n    return [g(i) for i in x]", "assert f([1, 2], lambda i: i + 1) == [2, 3]", True),
        ("def f(x):\n    return math.sqrt(x)", "assert math.isclose(f(4), 2)", False),
        ("import math\ndef f(x):\n    return math.sqrt(x)", "assert math.isclose(f(4), 2)", True),
        ("def f(x):\n    import sys\n    print(1)\n    sys.stderr.write('b')\n    return x", "assert f(1) == 1", True),
        ("if __name__ == '__main__':\n    1 / 0\ndef f(x):\n    return x", "assert f(1) == 1", True),
    ],
)  # fmt: skip
def test_functions(code: str, tests: str, correct: bool) -> None:
    verdict = grade(f"```python\n{code}\n```", tests, "code")
    assert verdict.correct is correct, verdict


@isolated
def test_a_helper_of_the_prompt_is_not_the_programs_to_replace() -> None:
    prefix = "import math\n\ndef near(a, b):\n    return abs(a - b) < 1e-6\n\ndef root(x):\n    '''Square root.'''\n"
    tests = make_tests(
        "def check(candidate):\n    assert near(candidate(4), 2)\n", {"entry_point": "root", "prefix": prefix}
    )
    assert grade_code("    return math.sqrt(x)\n", tests).correct
    assert grade_code("```python\ndef root(x):\n    return math.sqrt(x)\n```", tests).correct
    assert not grade_code("def near(a, b):\n    return True\ndef root(x):\n    return 0\n", tests).correct


@isolated
@pytest.mark.parametrize(
    ("code", "correct"),
    [
        ("print(int(input()) + 1)", True),
        ("import sys\nprint('%.3f' % (int(sys.stdin.read()) + 1))", True),
        ("print(2)", False),
        ("print(int(input()) + 1)\nraise SystemExit(1)", False),
        ("import os\nos._exit(0)", False),
        ("if __name__ == '__main__':\n    print(int(input()) + 1)", True),
        ("while True: print('x' * 1000)", False),
        ("open('/tmp/seen', 'x').close()\nprint(int(input()) + 1)", False),  # /tmp is there for all cases of a problem
    ],
)
def test_standard_input_and_output(code: str, correct: bool) -> None:
    cases = [{"input": "1\n", "output": "2\n"}, {"input": "41", "output": "42"}]
    verdict = grade(f"```python\n{code}\n```", cases, "code", CodeSettings(seconds=5))
    assert verdict.correct is correct, verdict


@isolated
def test_verdicts_do_not_depend_on_a_hash_seed() -> None:
    code = "def f():\n    return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})\n"
    first = [grade(code, f"assert f()[0] == {word!r}", "code").correct for word in ("alpha", "beta", "gamma", "delta")]
    assert first == [
        grade(code, f"assert f()[0] == {w!r}", "code").correct for w in ("alpha", "beta", "gamma", "delta")
    ]


@isolated
def test_a_problem_brings_its_tests_in_columns() -> None:
    extra = {"tests": '["assert add(1, 2) == 3"]', "grader_settings": {"seconds": 5, "memory_mb": None}}
    problem = Problem(0, "Add.", "unused", "code", extra=extra)
    assert grade_problem(problem, f"```python\n{ADD}```").correct
    broken = Problem(7, "Add.", "unused", "code", extra={"grader_settings": {"minutes": 5}})
    with pytest.raises(UserError, match=r"problem 7: unknown setting"):
        grade_problem(broken, ADD)


def _humaneval(row: dict[str, Any]) -> tuple[CodeTests, str]:
    return make_tests(row["tests"], {"entry_point": row["entry_point"], "prefix": row["problem"]}), row["answer"]


def _mbpp(row: dict[str, Any]) -> tuple[CodeTests, str]:
    return make_tests(row["tests"], row), row["answer"].replace("\r\n", "\n")


def _cruxeval(row: dict[str, Any]) -> tuple[CodeTests, str]:
    return make_tests(f"assert f({row['input']}) == {row['answer']}"), row["problem"]


SETS = {"humaneval/test": _humaneval, "mbpp/test": _mbpp, "cruxeval/test": _cruxeval}


def _grades(name: str, step: int, change: int | None = None) -> dict[str, Grade]:
    """Grades of a set's own solutions; with `change`, of those with their so-many-th last return changed."""

    def one(row: dict[str, Any]) -> tuple[str, Grade] | None:
        tests, code = SETS[name](row)
        changed = code if change is None else _changed(code, change)
        return None if changed is None else (row["id"], grade_code(changed, tests))

    with ThreadPoolExecutor(2) as threads:
        return dict(filter(None, threads.map(one, rows(name)[::step])))


def _changed(code: str, which: int) -> str | None:
    lines = code.rstrip().split("\n")
    places = [place for place, line in enumerate(lines) if "return" in line] or [len(lines) - 1]
    if which >= len(places):
        return None
    place = places[-1 - which]
    head = lines[place].partition("return")[0] if "return" in lines[place] else lines[place].partition("print")[0]
    lines[place] = f"{head}return 'wrong'"
    return "\n".join(lines) + "\n"


@isolated
@pytest.mark.parametrize("name", SETS)
def test_some_own_solutions(name: str) -> None:
    assert [grade for grade in _grades(name, 40).values() if not grade.correct] == []
    assert sum(not grade.correct for grade in _grades(name, 40, change=0).values()) >= 3


@isolated
@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("humaneval/test", 164), ("mbpp/test", 500), ("cruxeval/test", 800)])
def test_all_own_solutions(name: str, count: int) -> None:
    """Each passes, and fails with one line changed: its last return, or the one before if that one is never reached."""
    grades = _grades(name, 1)
    assert len(grades) == count
    assert [key for key, grade in grades.items() if not grade.correct] == []
    unharmed = set(grades)
    for change in range(12):
        if unharmed:
            unharmed -= {key for key, grade in _grades(name, 1, change).items() if not grade.correct}
    assert unharmed == set()
