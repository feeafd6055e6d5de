"""The benchmark registry: every entry reads its published form and the folder's, asks, and is graded."""

from __future__ import annotations

import base64
import csv
import json
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from masa.cli.app import app
from masa.errors import UserError
from masa.grading import grade_problem, grade_problems
from masa.grading.code import CodeTests, grade_code
from masa.grading.sandbox import isolation_fault
from masa.records import Problem
from masa.tasks import benchmark_rows as forms
from masa.tasks import benchmarks
from masa.tasks.benchmarks import BENCHMARKS, load_benchmark, local_file

DATA = Path(__file__).parents[3] / "shared" / "data"
HERE = [name for name, entry in BENCHMARKS.items() if DATA.is_dir() and local_file(entry, DATA) is not None]
shared = pytest.mark.skipif(not HERE, reason=f"data of other people is not here ({DATA})")
isolated = pytest.mark.skipif(isolation_fault() is not None, reason=str(isolation_fault()))

COUNTS = {"olympiadbench": 675, "mbpp_plus": 399, "math": 7498, "deepscaler": 1208}
"""Where what lies there is not the published set, or has faulty rows."""
FAULTY_GOLDS = {"deepscaler": {"dsr_sub_1187"}}
"""Golds that are not right themselves (an unbalanced brace)."""


def stated(problem: Problem) -> str:
    """A completion that gives the gold answer in the form that the prompt asks for."""
    if problem.kind == "code":
        return f"```python\n{problem.extra.get('prefix', '')}{problem.answer}\n```"
    if problem.kind == "literal":
        return f"So it is <answer>{problem.answer}</answer>"
    return rf"So it is \boxed{{{problem.answer}}}."


@shared
@pytest.mark.parametrize("name", HERE)
def test_sets_that_are_here(name: str) -> None:
    loaded = load_benchmark(name, data_dir=DATA)
    assert len(loaded) == COUNTS.get(name, BENCHMARKS[name].rows)
    assert all(problem.kind == BENCHMARKS[name].kind and problem.task == name for problem in loaded.problems)
    if BENCHMARKS[name].kind == "code":
        if isolation_fault() is not None:
            return
        problems = loaded.problems[::100]
    else:
        problems = loaded.problems
    grades = grade_problems(problems, [stated(problem) for problem in problems])
    wrong = {problem.extra["id"] for problem, grade in zip(problems, grades, strict=True) if not grade.correct}
    assert wrong == FAULTY_GOLDS.get(name, set())
    assert not any(grade.correct for grade in grade_problems(problems[:2], ["I do not know."] * 2))


def test_the_paper_and_the_training_sets_are_all_there() -> None:
    assert {entry.group for entry in BENCHMARKS.values()} == {"mathematics", "logic", "science", "coding", "training"}
    for entry in BENCHMARKS.values():
        assert entry.rows > 0
        assert all((entry.source, entry.split, entry.files, entry.licence, entry.quirks)), entry.name
        assert entry.read is not None or entry.columns or entry.secret, entry.name


PUBLISHED: dict[str, tuple[dict[str, Any], str, str]] = {
    "aime24": ({"problem": "q", "answer": "025"}, r"\boxed{25}", r"\boxed{26}"),
    "aime25": ({"problem": "q", "answer": "70", "id": "1"}, r"\boxed{70}", r"\boxed{7}"),
    "amc23": ({"question": "q", "answer": 27.0}, r"\boxed{27}", r"\boxed{2.7}"),
    "math500": ({"problem": "q", "answer": r"\frac12", "unique_id": "t/1"}, r"\boxed{0.5}", r"\boxed{0.6}"),
    "minerva_math": ({"question": "q", "answer": "4.49e33"}, r"\boxed{4.49 \times 10^{33}}", r"\boxed{4.5e33}"),
    "olympiadbench": (
        {"question": "q", "final_answer": ["$1,2$"], "is_multiple_answer": True, "unit": None, "error": None},
        r"\boxed{2, 1}", r"\boxed{2, 2}",
    ),
    "prontoqa": (
        {"id": "1", "context": "c", "question": "q", "options": ["A) True", "B) False"], "answer": "B"},
        r"\boxed{False}", r"\boxed{A}",
    ),
    "logical_deduction": (
        {"id": "1", "context": "c", "question": "q", "options": [f"{x}) x{x}" for x in "ABCDEFG"], "answer": "G"},
        r"\boxed{G}", r"\boxed{F, G}",
    ),
    "ar_lsat": (
        {"id": "1", "context": "c", "question": "q", "options": [f"{x}) x{x}" for x in "ABCDE"], "answer": "E"},
        r"\boxed{E}", r"\boxed{A}",
    ),
    "arc_challenge": (
        {"id": "1", "question": "q", "choices": {"text": ["w", "x", "y"], "label": ["1", "2", "3"]}, "answerKey": "3"},
        r"\boxed{C}", r"\boxed{3}",
    ),
    "rbench": ({"question": "q", **{x: f"o{x}" for x in "ABCDEF"}, "answer": "F"}, r"\boxed{F}", r"\boxed{A}"),
    "scibench": (
        {"problem_text": "q", "answer_number": "\u22121,200", "unit": r"$10^{-3} \mathrm{~J}$", "answer_latex": "x"},
        r"\boxed{-1.25}", r"\boxed{1200}",
    ),
    "cruxeval_o": (
        {"code": "def f(x): ...", "input": "1", "output": "['a']"}, '<answer>["a"]</answer>', "<answer>a</answer>",
    ),
    "gsm8k": ({"question": "q", "answer": "so\n#### 1,200"}, r"\boxed{1200}", r"\boxed{12}"),
    "math": ({"problem": "q", "solution": r"so $\boxed{3}$"}, r"\boxed{3}", r"\boxed{2}"),
    "deepscaler": ({"problem": "q", "answer": "3", "solution": "s"}, r"\boxed{3}", r"\boxed{2}"),
}  # fmt: skip
"""Made-up rows in the published forms, with a right and a wrong completion."""


def loaded_from(name: str, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, seed: int = 0) -> list[Problem]:
    monkeypatch.delenv(benchmarks.DATA_VARIABLE, raising=False)
    monkeypatch.setattr(benchmarks, "_fetched", lambda benchmark: rows)
    return list(load_benchmark(name, seed=seed).problems)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_forms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, right, wrong = PUBLISHED[name]
    (problem,) = loaded_from(name, [row], monkeypatch)
    assert grade_problem(problem, right).correct
    assert not grade_problem(problem, wrong).correct
    assert problem.text.strip()


def packed(value: Any) -> str:
    """A value as LiveCodeBench packs its private cases."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


CODE: dict[str, tuple[dict[str, Any], str, str]] = {
    "humaneval": (
        {"task_id": "x", "prompt": "def f(x):\n    '''One more.'''\n", "canonical_solution": "    return x + 1\n",
         "test": "def check(candidate):\n    assert candidate(1) == 2\n", "entry_point": "f"},
        "    return x + 1\n", "    return x\n",
    ),
    "humaneval_plus": (
        {"task_id": "x", "prompt": "def f(x):\n    '''Half.'''\n", "canonical_solution": "    return x / 2\n",
         "test": "import numpy as np\n\ndef check(candidate):\n    assert np.allclose(candidate(1), 0.5, rtol=1e-07)\n",
         "entry_point": "f"},
        "```python\ndef f(x):\n    return x / 2\n```", "```python\ndef f(x):\n    return x\n```",
    ),
    "mbpp_plus": (
        {"task_id": 2, "prompt": "Add.", "code": "c", "test_imports": ["import math"],
         "test_list": ["assert f(1) == 2"],
         "test": "import numpy as np\nfrom math import inf\n\ndef is_floats(x) -> bool:\n"
         "    return isinstance(x, float)\n\n"
         "def assertion(out, exp, atol):\n    if atol == 0 and is_floats(exp):\n        atol = 1e-6\n"
         "    if out != exp and atol != 0:\n        assert np.allclose(out, exp, rtol=1e-07, atol=atol)\n"
         "    else:\n        assert out == exp\n\ninputs = [[1], [2.5]]\nresults = [2, 3.5]\n"
         "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(f(*inp), exp, 0)\nmath.floor(1.5)\n"},
        "def f(x):\n    return x + 1\n", "def f(x):\n    return x\n",
    ),
    "mbpp": (
        {"task_id": 11, "text": "Add.", "code": "c", "test_list": ["assert f(y) == 2"], "test_setup_code": "y = 1",
         "challenge_test_list": []},
        "def f(x):\n    return x + 1\n", "def f(x):\n    return x\n",
    ),
    "livecodebench": (
        {"question_id": "1", "question_content": "q", "public_test_cases": '[{"input": "1", "output": "2"}]',
         "private_test_cases": packed('[{"input": "3", "output": "4"}]'),
         "metadata": "{}", "starter_code": ""},
        "print(int(input()) + 1)\n", "print(2)\n",
    ),
}  # fmt: skip


@isolated
@pytest.mark.parametrize("name", CODE)
def test_published_forms_of_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row, right, wrong = CODE[name]
    (problem,) = loaded_from(name, [row], monkeypatch)
    assert grade_problem(problem, right).correct, grade_problem(problem, right)
    assert not grade_problem(problem, wrong).correct


@isolated
def test_livecodebench_may_ask_for_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**CODE["livecodebench"][0], "metadata": '{"func_name": "pair"}', "starter_code": "class Solution: ..."}
    row["public_test_cases"] = json.dumps([{"input": "[1, 2]\n3", "output": "[[1, 2], 3]"}])
    row["private_test_cases"] = "[]"
    (problem,) = loaded_from("livecodebench", [row], monkeypatch)
    right = "class Solution:\n    def pair(self, a, b):\n        return (a, b)\n"
    assert grade_problem(problem, right).correct
    assert not grade_problem(problem, right.replace("(a, b)\n", "[a]\n")).correct


@isolated
@pytest.mark.parametrize(
    ("body", "correct"),
    [
        ("re.search('ab', text)", True),
        ("re.search('ab', text) is not None", True),
        ("'ab' in text or None", True),
        ("True", False),
        ("False", False),
        ("None", False),
    ],
)
def test_whether_a_pattern_is_found_may_be_said_in_two_ways(body: str, correct: bool) -> None:
    tests = forms.tests_by_solution(
        {
            "entry_point": "text_match_three",
            "base_input": [["cab"]],
            "plus_input": [["ba"]],
            "answer": "import re\ndef text_match_three(text):\n    return re.search('ab', text)\n",
        }
    )
    code = f"import re\ndef text_match_three(text):\n    return {body}\n"
    assert grade_code(code, CodeTests(tests, "text_match_three")).correct is correct


def test_close_to_infinity_is_nothing_else() -> None:
    scope: dict[str, Any] = {}
    exec(forms.without_numpy("import numpy as np"), scope)
    close, endless = scope["np"].allclose, float("inf")
    assert close([endless, 1.0], [endless, 1.0 + 1e-9])
    assert not close(1.0, endless)
    assert not close(endless, 1.0)
    assert not close(-endless, endless)


def test_a_unit_of_dollars_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"problem_text": "q", "answer_number": "7166.67", "unit": r" $\$$"}
    (problem,) = loaded_from("scibench", [row], monkeypatch)
    assert r"The unit of the answer is $\$$;" in problem.text
    assert grade_problem(problem, r"\boxed{\$7200}").correct
    (problem,) = loaded_from("scibench", [{**row, "unit": r"$10^3$ m"}], monkeypatch)
    assert "The unit of the answer is $10^3$ m;" in problem.text
    assert grade_problem(problem, r"\boxed{7.16667 \times 10^6 \text{ m}}").correct


def test_packed_cases_cannot_run_code() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("harm",))

    with pytest.raises(UserError, match="cannot be read"):
        forms._cases(packed(Evil()))


GPQA = [
    {"Question": f" made up {n}\nin two lines ", "Correct Answer": f" right {n} ", "Record ID": f"r{n}",
     **{f"Incorrect Answer {k}": f"wrong {n}{k}\n" for k in (1, 2, 3)}}
    for n in range(60)
]  # fmt: skip


def test_gpqa_options_are_shuffled_by_row_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded_from("gpqa_diamond", GPQA, monkeypatch)
    assert first == loaded_from("gpqa_diamond", GPQA, monkeypatch)
    assert first != loaded_from("gpqa_diamond", GPQA, monkeypatch, seed=1)
    # Each letter is right about 15 times of 60; fewer than 5 happens once in 1,000 shuffles.
    assert all(sum(problem.answer == letter for problem in first) >= 5 for letter in "ABCD")
    for number, problem in enumerate(first):
        assert problem.extra["choices"]["ABCD".index(problem.answer)] == f"right {number}"
        assert grade_problem(problem, rf"\boxed{{right {number}}}").correct


def test_gpqas_csv_is_read_and_never_shown(tmp_path: Path) -> None:
    folder = tmp_path / "gpqa_diamond"
    folder.mkdir()
    with (folder / "gpqa_diamond.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, GPQA[0])
        writer.writeheader()
        writer.writerows(GPQA)
    assert len(load_benchmark("gpqa_diamond", data_dir=tmp_path)) == 60
    for options in ([], ["--json"]):
        result = CliRunner().invoke(app, ["data", "show", "gpqa_diamond", "--data-dir", str(tmp_path), *options])
        assert result.exit_code == 0
        assert "60" in result.output
        assert not any(word in result.output for word in ("made up", "right", "wrong"))


def test_a_set_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(benchmark: Any) -> Any:
        raise OSError("no network\nat all")

    monkeypatch.setattr(benchmarks, "_fetched", fail)
    with pytest.raises(
        UserError, match=r"'aime25' cannot be had: it comes from math-ai/aime25 .*aime25/test\.jsonl"
    ) as caught:
        load_benchmark("aime25", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'math500'"):
        load_benchmark("math50")
    with pytest.raises(UserError, match=r"data folder .* does not exist"):
        load_benchmark("math500", data_dir=tmp_path / "nothing")
    (tmp_path / "aime25").mkdir()
    (tmp_path / "aime25" / "test.jsonl").write_text('{"problem": "q", "answer": ""}\n')
    with pytest.raises(UserError, match="line 1: no answer"):
        load_benchmark("aime25", data_dir=tmp_path)
    (tmp_path / "aime25" / "test.jsonl").write_text('{"problem": "q", "answer": "1"}\n{\n')
    monkeypatch.setenv(benchmarks.DATA_VARIABLE, str(tmp_path))
    loaded = load_benchmark("aime25")
    assert (len(loaded), loaded.skipped) == (1, 1)
    assert "line 2: not valid JSON" in loaded.complaints[0]


def test_list() -> None:
    result = CliRunner().invoke(app, ["data", "list"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in BENCHMARKS)
    assert "https://github.com/teacherpeterpan/Logic-LLM " in result.stdout
    listed = json.loads(CliRunner().invoke(app, ["data", "list", "--json"]).stdout)
    assert [entry["name"] for entry in listed] == list(BENCHMARKS)


def test_without_torch() -> None:
    code = (
        "import sys, masa.grading, masa.grading.code, masa.grading.math, masa.tasks.benchmarks, masa.tasks.overlap\n"
        "heavy = [name for name in ('torch', 'transformers', 'datasets', 'math_verify') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_training_sets_are_measured_on_their_test_split(tmp_path: Path) -> None:
    for split, answer in (("train", "1"), ("test", "2")):
        (tmp_path / "gsm8k").mkdir(exist_ok=True)
        row = {"id": "0", "problem": f"a {split} problem", "answer": answer}
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    (trained,) = load_benchmark("gsm8k", data_dir=tmp_path).problems
    (measured,) = load_benchmark("gsm8k", data_dir=tmp_path, is_test=True).problems
    assert ("a train problem" in trained.text, "a test problem" in measured.text) == (True, True)
    assert (trained.answer, measured.answer) == ("1", "2")
    assert benchmarks.test_split(BENCHMARKS["math"]).rows == 5000
    assert benchmarks.test_split(BENCHMARKS["aime24"]) is BENCHMARKS["aime24"]
