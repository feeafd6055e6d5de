"""`masa solve` as a user runs it, on the bundled model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main, measuring
from masa.runs.jsonlines import read_gzipped_rows

Capture = pytest.CaptureFixture[str]
QUESTIONS = ["Compute 12 + 30.", "gcd 12 18", "binary 13"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("questions.txt").write_text("\n".join(QUESTIONS))


def masa(monkeypatch: pytest.MonkeyPatch, capsys: Capture, *arguments: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["masa", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as exit:
        code = int(exit.code or 0)
    return code, *capsys.readouterr()


def test_one_question(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code, out, err = masa(monkeypatch, capsys, "solve", "bundled", "--question", QUESTIONS[0], "--samples", 4)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("answer: ")
    assert lines[1].startswith("confidence: ")
    assert lines[2].startswith("likely right: ")
    assert lines[3].startswith("foretold: 4 of 4 predictions name a pass rate; right ")
    assert lines[4].startswith("stopped: ")
    assert "bundled, both: " in lines[-1]
    assert "for predictions" in lines[-1]


def test_a_file_as_a_table_and_as_json(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = ("solve", "bundled", "--file", "questions.txt", "--samples", 6, "--predictions", 2, "--budget", 800)
    code, out, err = masa(monkeypatch, capsys, *command, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert [one["question"] for one in found["solutions"]] == QUESTIONS
    assert found["tokens"] == sum(one["tokens"] for one in found["solutions"]) <= 800
    assert found["settings"]["strategy"] == "both"
    assert found["settings"]["cutoff"] == {"rule": "paper", "factor": 2.0, "ratio": 1.0}
    for one in found["solutions"]:
        assert one["samples"] <= 6
        assert one["foretold"]["predictions"] == 2
        assert sum(vote["count"] for vote in one["votes"]) <= one["samples"]
    assert masa(monkeypatch, capsys, *command, "--json")[1] == out  # the same seed
    assert masa(monkeypatch, capsys, *command, "--seed", 1, "--json")[1] != out
    code, table, _ = masa(monkeypatch, capsys, *command)
    assert code == 0
    for one in found["solutions"]:
        assert one["question"] in table
    assert "of 800" in table


def test_plain_voting_draws_what_an_evaluation_draws(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    rows = [{"problem": question, "answer": "0", "kind": "literal"} for question in QUESTIONS]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = masa(
        monkeypatch,
        capsys,
        "solve",
        "bundled",
        "--file",
        "rows.jsonl",
        "--strategy",
        "uniform",
        "--samples",
        3,
        "--json",
    )
    assert code == 0
    evaluation = ("eval", "bundled", "--data", "rows.jsonl", "--n", 3, "--output", "eval")
    assert masa(monkeypatch, capsys, *evaluation)[0] == 0
    (chunk,) = Path("eval/answers").iterdir()
    texts = [[row["text"] for row in read_gzipped_rows(chunk) if row["problem"] == key] for key in range(3)]
    for one, drawn in zip(json.loads(out)["solutions"], texts, strict=True):
        assert one["text"] is None or one["text"] in drawn
        assert one["samples"] == len(drawn)


def test_texts_that_would_turn_a_terminal_around_are_shown_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    evil = "[red]\x1b[2J\u202e{problem} %s \x00"
    Path("evil.jsonl").write_text("".join(json.dumps({"problem": evil + str(i)}) + "\n" for i in range(2)))
    load = measuring.load_policy

    def load_evil(*given: Any, **options: Any) -> Any:
        policy = load(*given, **options)
        texts = {"decode": lambda self, rollouts: ["\\boxed{[b]\x1b[31m\ud800\u2066}"] * len(rollouts)}
        return type("Evil", (type(policy),), {"__slots__": (), **texts})(policy.engine, policy.tokenizer, 4096)

    monkeypatch.setattr(measuring, "load_policy", load_evil)
    for arguments in (["--file", "evil.jsonl"], ["--question", "1 + 1"]):
        code, out, err = masa(monkeypatch, capsys, "solve", "bundled", *arguments, "--samples", 2)
        assert (code, err) == (0, "")
        assert "[b]" in out
        assert not {"\x1b", "\u202e", "\ud800", "\u2066", "\x00"} & set(out)
        code, out, _ = masa(monkeypatch, capsys, "solve", "bundled", *arguments, "--samples", 2, "--json")
        assert code == 0
        assert json.loads(out)["solutions"][0]["votes"][0]["count"] == 2


def test_no_answer_and_no_prediction_come_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code, out, _ = masa(
        monkeypatch,
        capsys,
        "solve",
        "bundled",
        "--question",
        "Hello",
        "--samples",
        2,
        "--max-tokens",
        8,
        "--max-meta-tokens",
        4,
    )
    assert code == 0
    assert "no prediction could be used" in out
    code, out, _ = masa(
        monkeypatch,
        capsys,
        "solve",
        "bundled",
        "--question",
        "Hello",
        "--samples",
        2,
        "--max-tokens",
        8,
        "--budget",
        20,
    )
    assert code == 0
    assert "the budget left no room for predictions" in out
    code, out, _ = masa(
        monkeypatch,
        capsys,
        "solve",
        "bundled",
        "--question",
        "9 + 9",
        "--samples",
        1,
        "--max-tokens",
        1,
        "--strategy",
        "uniform",
    )
    assert code == 0
    assert out.startswith("answer: none\n")
    assert 'for example --prompt "{problem} Give' in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bundled"], "masa solve answers one question (--question TEXT) or those of a file (--file FILE): give one"),
        (["nothing/here", "--question", "1", "--max-tokens", 0], "--max-tokens 0: it must be at least 1"),
        (["./nothing", "--question", "1"], "model ./nothing does not exist"),
        (["bundled", "--question", "1", "--temperature", 0], "--temperature 0 gives the same answer each time"),
        (["bundled", "--question", "1", "--max-tokens", 100_000], "give a lower --max-tokens"),
        (["bundled", "--question", "1", "--strategy", "unifrom"], "unknown strategy 'unifrom': did you mean 'uniform'"),
        (["bundled", "--question", "1", "--prompt", "?"], "must contain {problem}"),
        (["bundled", "--file", "questions.txt", "--limit", 0], "--limit 0: it must be at least 1"),
        (["bundled", "--file", "."], ". cannot be read (Is a directory): check the path"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[Any], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, out, err = masa(monkeypatch, capsys, "solve", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
