"""`masa push`: what would go up, and what is said where it cannot. The Hub itself is never asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main
from masa.runs import RunFolder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = RunFolder.create(tmp_path / "run", {"preset": "masa"})
    folder.append_metrics(1, {"awareness/brier": 0.123})
    (folder.path / "model").mkdir()
    (folder.path / "model" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("COLUMNS", "2000")
    return folder.path


def push(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["masa", "push", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), *capsys.readouterr()


def test_a_dry_run_writes_the_card_and_names_the_models_files_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = push(monkeypatch, capsys, run, "owner/thinker", "--dry-run")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["README.md", "model.safetensors", "card:"]
    card = (run / "model" / "README.md").read_text()
    assert "# thinker" in card
    assert "0.123" in card


def test_mistakes_are_one_line(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        ([run, "thinker"], "repository 'thinker': write owner/name"),
        ([run.parent, "owner/thinker"], "holds no run"),
    ):
        code, out, err = push(monkeypatch, capsys, *arguments)
        assert (code, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1


def test_without_a_network_it_says_so_in_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = push(monkeypatch, capsys, run, "owner/thinker")
    assert code == 2
    assert "push to owner/thinker" in err
    assert "hf auth login" in err
    assert err.count("\n") == 1
