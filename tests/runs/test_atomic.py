"""Whole files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from masa.runs import atomic_write_bytes, atomic_write_text


def test_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    atomic_write_text(path, "one")
    atomic_write_text(path, "zwei ü\r\n")
    assert path.read_bytes() == "zwei ü\r\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")

    def fail(descriptor: int) -> None:
        raise error

    monkeypatch.setattr("masa.runs.atomic.os.fsync", fail)
    with pytest.raises(error):
        atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode
