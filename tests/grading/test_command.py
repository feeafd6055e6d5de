"""`masa grade`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from masa.cli.app import app
from masa.errors import UserError
from masa.grading import sandbox


def run(*arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(app, ["grade", *arguments], input=text)


def lines(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_line_a_case(tmp_path: Path) -> None:
    cases = [
        {"id": "a", "gold": "1/2", "prediction": r"so \boxed{0.5}"},
        {"id": 2, "gold": ["3", "x+1"], "prediction": r"\boxed{1+x}"},
        {"gold": 7, "prediction": "7 or so"},
        {"gold": "B", "prediction": "Answer: (B) blue", "kind": "choice", "choices": ["A) red", "B) blue"]},
        {"gold": "[1, 2]", "prediction": r"\boxed{[1,2]}", "kind": "literal"},
        {"gold": "100", "prediction": r"\boxed{104}", "grader_settings": {"relative_tolerance": 0.05}},
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("\n".join(map(json.dumps, cases)))
    result = run(str(file))
    found = lines(result)
    assert [line["correct"] for line in found] == [True, True, False, True, True, True]
    assert [list(line) for line in found[:3]] == [["id", "correct", "extracted", "reason"]] * 2 + [
        ["correct", "extracted", "reason"]
    ]
    assert found[2] == {"correct": False, "extracted": None, "reason": "no final answer stated"}
    assert result.stderr == "5 of 6 correct\n"


def test_standard_input_settings_and_columns() -> None:
    row = {"answer": "100", "text": r"\boxed{104}"}
    columns = ("--gold-column", "answer", "--prediction-column", "text")
    for settings, correct in (((), False), (("--set", "relative_tolerance=0.05"), True)):
        assert lines(run("-", *columns, *settings, text=json.dumps(row)))[0]["correct"] is correct


@pytest.mark.parametrize(
    ("row", "arguments", "complaint"),
    [
        ('{"gold": "1"}', (), r"line 1: field 'prediction' must be a text \(--prediction-column"),
        ('{"prediction": "1"}', (), "line 1: field 'gold' must be a text or a list"),
        ("{", (), "line 1: not valid JSON"),
        ('{"gold": "1", "prediction": "1", "kind": "choise"}', (), "input, line 1: did you mean 'choice'"),
        ('{"gold": "1", "prediction": "1"}', ("--kind", "maths"), "did you mean 'math'"),
        ('{"gold": "1", "prediction": "1"}', ("--set", "tolerance=1"), "did you mean '.*_tolerance'"),
        ('{"gold": "1", "prediction": "1"}', ("--set", "unit"), "write key=value"),
        ('{"gold": "1", "prediction": "1"}', ("--set", "unit=1"), "unit must be a text, got 1"),
        ('{"gold": "1", "prediction": "x", "kind": "code", "grader_settings": {"allow_unsafe": true}}', (), "for data"),
        ('{"gold": "1", "prediction": "x"}', ("--kind", "code", "--set", "allow_unsafe=true"), "--unsafe-code"),
        ('{"gold": "no python (", "prediction": "x", "kind": "code"}', (), "line 1: the tests of a code .* no Python"),
    ],
)  # fmt: skip
def test_mistakes_are_named(row: str, arguments: tuple[str, ...], complaint: str) -> None:
    result = run("-", *arguments, text=row)
    assert isinstance(result.exception, UserError)
    assert result.stdout == ""
    with pytest.raises(UserError, match=complaint):
        raise result.exception


def test_a_missing_file_is_named() -> None:
    assert "does not exist" in str(run("nothing.jsonl").exception)


def test_code_is_refused_without_isolation_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_fault", lambda: "bubblewrap (bwrap) is not installed")
    row = json.dumps({"tests": ["assert f(1) == 2"], "prediction": "def f(x):\n    return x + 1\n", "kind": "code"})
    assert "--unsafe-code-execution" in str(run("-", text=row).exception)
    assert lines(run("-", "--unsafe-code-execution", text=row))[0]["correct"] is True


def test_hostile_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"gold": "1", "prediction": text}
        for text in ("\ud800", "\x00", r"\boxed{" * 9000, r"\boxed{\ud800}" + "{" * 99)
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert [line["correct"] for line in lines(run("-", text="\n".join(map(json.dumps, rows))))] == [False] * 4
