"""`masa probe --rollouts` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main

LINES = [
    {"step": step, "problem": f"{problem}", "correct": int(sample < problem), "length": 10 + sample}
    for step in range(1, 7)
    for problem in range(5)
    for sample in range(4)
]
"""Problem p has p correct rollouts of 4, at every of 6 visits: 2 of 5 groups have no variance."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def probe(arguments: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What goes to standard output and to standard error."""
    monkeypatch.setattr(sys, "argv", ["masa", "probe", *map(str, arguments)])
    try:
        main()
    except SystemExit as exit:
        if exit.code:
            raise
    out, err = capsys.readouterr()
    return out, err


def test_tables_and_words(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, err = probe(["--rollouts", log], monkeypatch, capsys)
    assert err == ""
    assert "120 rollouts in 30 groups of 4; 6 steps, 5 problems, 6.0 visits each (at most 6)" in out
    assert "1..6 30 50 % 40 % (" in " ".join(out.split())
    assert "…" not in out  # everything fits into 80 columns
    assert "A perfect gate would have saved 40 % of the tokens; the history gate" in " ".join(out.split())


def test_json_is_one_object_and_nothing_else(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = probe(["--rollouts", log, "--json"], monkeypatch, capsys)
    assert (err, out.count("\n")) == ("", 1)
    found = json.loads(out)
    assert found["perfect_share"] == pytest.approx(0.4)
    assert found["summary"]["whole"]["zero_variance"] | {"low": 0, "high": 0} == {
        "share": 0.4,
        "low": 0,
        "high": 0,
        "of": 30,
    }
    assert set(found["gates"]) == {"history", "posterior 0.9", "posterior 0.7"}
    assert found["gates"]["history"]["known"] == 25
    assert len(found["cutoffs"]) == 8
    # The same seed gives the same draws, another one others.
    assert probe(["--rollouts", log, "--json"], monkeypatch, capsys)[0] == out
    assert probe(["--rollouts", log, "--json", "--seed", 1], monkeypatch, capsys)[0] != out


def test_other_columns(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads(probe(["--rollouts", log, "--json"], monkeypatch, capsys)[0])
    names = {"step": "global_step", "problem": "prompt", "correct": "score", "length": "response_length"}
    renamed = log.with_name("renamed.jsonl")
    renamed.write_text("".join(json.dumps({names[k]: v for k, v in line.items()}) + "\n" for line in LINES))
    options = [part for name, column in names.items() for part in (f"--{name}-column", column)]
    found = json.loads(probe(["--rollouts", renamed, *options, "--json"], monkeypatch, capsys)[0])
    assert found["summary"] == expected["summary"]
    assert found["gates"] == expected["gates"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: masa probe asks a model (MODEL --data ...) or logged rollouts (--rollouts FILE): give one"),
        (["--rollouts", "nothing.jsonl"], "error: rollouts nothing.jsonl do not exist: check the path"),
        (
            ["--rollouts", "rollouts.jsonl", "--length-column", "lenght"],
            "error: rollouts.jsonl, line 1: no column 'lenght': did you mean 'length'? name the column with "
            "--length-column (generated tokens, which a text does not tell: log them)",
        ),
        (
            ["--rollouts", "rollouts.jsonl", "--correct-column", "problem"],
            "error: rollouts.jsonl, line 1: column 'problem' is \"0\": it must be a boolean, 0 or 1, or a reward; mend "
            "or remove the row",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    said: str,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(log.parent)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        probe(arguments, monkeypatch, capsys)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == said + "\n"


def test_torch_is_not_loaded(log: Path) -> None:
    code = (
        "import sys\n"
        "from masa.cli import main\n"
        f"sys.argv = ['masa', 'probe', '--rollouts', {str(log)!r}]\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
