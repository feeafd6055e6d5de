"""`--learn-from`: a stopping rule out of the folder that `masa eval` leaves, and the folders that are refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main

Capture = pytest.CaptureFixture[str]
N = 4


def masa(monkeypatch: pytest.MonkeyPatch, capsys: Capture, *arguments: Any) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["masa", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    printed = capsys.readouterr()
    return int(left.value.code or 0), printed.out, printed.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graded") / "eval"
    with pytest.MonkeyPatch.context() as patch:
        given = ("eval", "bundled", "--data", "bundled", "--limit", 8, "--n", N, "--output", path, "--threads", 1)
        patch.setattr(sys, "argv", ["masa", *map(str, given)])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    return path


def solve(monkeypatch: pytest.MonkeyPatch, capsys: Capture, folder: Path, *options: Any) -> tuple[int, str, str]:
    asked = ("--question", "Compute 12 + 30.", "--strategy", "learned", "--threads", 1, "--learn-from", folder)
    return masa(monkeypatch, capsys, "solve", "bundled", *asked, *options)


def test_solve_stops_by_what_it_learnt(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    found = []
    for least_gain in (0.99, 0.001, 0.001):
        code, out, _ = solve(monkeypatch, capsys, folder, "--samples", N, "--least-gain", least_gain, "--json")
        assert code == 0
        result = json.loads(out)
        assert result["settings"]["strategy"] == "learned"
        assert result["settings"]["rule"]
        assert result["settings"]["least_gain"] == least_gain
        assert result["settings"]["threshold"] is None
        found.append(result["solutions"])
    # No sample can raise the chance by so much, so the first vote ends it; a small gain is worth several.
    assert [vote["count"] for vote in found[0][0]["votes"]] == [1]
    assert found[0][0]["stopped"] == "settled"
    assert found[1][0]["samples"] > 1
    assert found[1] == found[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--temperature", 0.7), r"its answers were sampled otherwise \(temperature: 1.0 there, 0.7 now\)"),
        (("--top-p", 0.9), r"sampled otherwise \(top_p: 1.0 there, 0.9 now\)"),
        (("--max-tokens", 50, "--min-length", 8), r"sampled otherwise \(max_tokens: 192 there, 50 now\)"),
        (("--prompt", "Say {problem}"), "its answers were asked for by another prompt than the questions"),
        (("--samples", N + 1), rf"has {N} answers a problem: make it with masa eval --n {N + 1}"),
        (("--least-gain", 1), r"--least-gain 1: it must be at least 0 and below 1"),
        (("--threshold", 0.9), r"--threshold: strategy learned does not use it; leave it out"),
        (("--predictions", 2), r"--predictions: strategy learned does not use it; leave it out"),
    ],
)
def test_folders_and_options_that_do_not_go_together_are_refused(
    options: tuple[Any, ...], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    samples = () if "--samples" in options else ("--samples", N)
    code, out, err = solve(monkeypatch, capsys, folder, *samples, *options)
    assert (code, out) == (2, "")
    assert re.search(said, err)
    assert len(err.splitlines()) == 1


def test_what_is_no_evaluation_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, _, err = solve(monkeypatch, capsys, tmp_path / "nowhere", "--samples", N)
    assert code == 2
    assert re.search(r"nowhere/evaluation\.yaml cannot be read .*: check the path", err)
    (tmp_path / "evaluation.yaml").write_bytes((folder / "evaluation.yaml").read_bytes())
    code, _, err = solve(monkeypatch, capsys, tmp_path, "--samples", N)
    assert (code, "has 0 answers a problem" in err) == (2, True)
    (tmp_path / "evaluation.yaml").write_text("command: eval-adaptive\n")
    code, _, err = solve(monkeypatch, capsys, tmp_path, "--samples", N)
    assert (code, "holds no answers of masa eval (with --policy plain) or masa probe" in err) == (2, True)
    (tmp_path / "evaluation.yaml").write_text(
        (folder / "evaluation.yaml").read_text().replace("weights: ", "weights: 0")
    )
    code, _, err = solve(monkeypatch, capsys, tmp_path, "--samples", N)
    assert (code, "sampled otherwise (weights: " in err) == (2, True)


def test_the_folder_and_the_strategy_belong_together(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    code, _, err = masa(monkeypatch, capsys, "solve", "bundled", "--question", "1 + 1", "--strategy", "learned")
    assert (code, "name their folder with --learn-from (masa eval MODEL --n 16 makes one)" in err) == (2, True)
    code, _, err = masa(monkeypatch, capsys, "solve", "bundled", "--question", "1 + 1", "--learn-from", "x")
    assert (code, "--learn-from: strategy both does not use it; leave it out" in err) == (2, True)
    code, _, err = masa(monkeypatch, capsys, "eval", "bundled", "--learn-from", "x")
    assert (code, "--learn-from belongs to --policy adaptive" in err) == (2, True)


def test_nothing_is_learnt_from_the_answers_to_what_is_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    options = ("--policy", "adaptive", "--strategy", "learned", "--learn-from", folder, "--n", N, "--threads", 1)
    asked = ("eval", "bundled", "--data", "bundled", *options, "--output", tmp_path / "out", "--json", "--limit")
    code, out, err = masa(monkeypatch, capsys, *asked, 8)
    assert (code, out) == (2, "")
    assert "holds graded answers to bundled itself: learn from other problems" in err
    code, out, _ = masa(monkeypatch, capsys, *asked, 2)
    assert code == 0
    assert json.loads(out)["settings"]["rule"]
