"""A disk that fills up while a run writes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main
from masa.runs import RunFolder, atomic_write_text, disk
from masa.runs.jsonlines import append_row, read_rows


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing can be synced: where a disk without delayed allocation would say it is full."""

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(tmp_path: Path, full: None) -> None:
    path = tmp_path / "ledger.json"
    path.write_text("old")
    with pytest.raises(OSError, match=r"No space left on device \(2.0 MB needed, [\d,.]+ MB free\): .*ledger.json"):
        atomic_write_text(path, "x" * 2_000_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_does_not_fit_leaves_no_half_of_it(tmp_path: Path, full: None) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    with pytest.raises(OSError, match=r"No space left on device .*metrics.jsonl"):
        append_row(path, {"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_system_s_own_words_are_understood() -> None:
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    assert disk.is_full(caught.value)


def test_an_error_that_is_its_own_cause_is_looked_at_once(tmp_path: Path) -> None:
    """As a write into a folder that is gone raises it: no full disk, and no endless chain of causes either."""
    with pytest.raises(FileNotFoundError) as caught:
        atomic_write_text(tmp_path / "gone" / "file", "x")
    assert caught.value.__cause__ is caught.value
    assert not disk.is_full(caught.value)


def test_a_write_that_takes_only_a_part_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of a disk, or under a limit on a file's size."""
    path = tmp_path / "metrics.jsonl"
    own = Path.open

    class Short:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> Short:
            return self

        def __exit__(self, *_: Any) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: bytes) -> int:
            return int(self._file.write(data[:3]))

    monkeypatch.setattr(Path, "open", lambda self, *a, **k: Short(own(self, *a, **k)))
    append_row(path, {"step": 1})
    monkeypatch.undo()
    assert read_rows(path) == [{"step": 1}]


def test_is_full_looks_at_what_an_error_came_from() -> None:
    outer = RuntimeError("could not save")
    outer.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert disk.is_full(outer)
    assert not disk.is_full(OSError(errno.EACCES, "Permission denied"))
    assert not disk.is_full(ValueError("a space too many"))


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], full: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setattr(sys, "argv", ["masa", "train", "--output", "run"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert "disk full" in line
    assert "config.yaml" in line
    assert "needed" in line


def test_what_a_kill_left_of_a_write_is_removed_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"preset": "masa"})
    left = [folder.path / ".ledger.json.1-ab.tmp", folder.rollouts_path / ".step-1.jsonl.gz.1-ab.tmp"]
    for path in left:
        path.write_bytes(b"half")
    RunFolder.create(tmp_path / "run", {"preset": "masa"}, resume=True)
    assert not any(path.exists() for path in left)
