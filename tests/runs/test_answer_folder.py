"""The folder of an evaluation: what it takes and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from masa.errors import UserError
from masa.runs.answers import AnswerFolder, file_name

SETTINGS: dict[str, Any] = {"model": "a", "n": 4, "data": {"x.y": {"digest": "1"}}}


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    AnswerFolder(tmp_path / "new", SETTINGS).write("x.y", 0, [{"text": "\ud800"}])
    again = AnswerFolder(tmp_path / "new", SETTINGS | {"model": "b"}, may_differ=("model",))
    assert again.read("x.y", 0) == [{"text": "\ud800"}]
    assert again.read("x.y", 1) is None
    written = yaml.safe_load((tmp_path / "new" / "evaluation.yaml").read_text())
    assert written["n"] == 4
    assert "torch" in written["run"]["versions"]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    AnswerFolder(tmp_path, SETTINGS)
    with pytest.raises(UserError, match=r"other settings \(data.x.y.digest: '1' there, '2' now; n: 4 there, 8 now\)"):
        AnswerFolder(tmp_path, SETTINGS | {"n": 8, "data": {"x.y": {"digest": "2"}}})


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "answers"])
def test_a_folder_with_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"holds something else \\({name}\\): name another with --output"):
        AnswerFolder(tmp_path, SETTINGS)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"):
        AnswerFolder(tmp_path / "file", SETTINGS)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = AnswerFolder(tmp_path, SETTINGS)
    folder.write("x", 0, [{"a": 1}])
    path = tmp_path / "answers" / "x-0000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"x-0000.jsonl.gz: not a whole gzip file"):
        folder.read("x", 0)
    (tmp_path / "evaluation.yaml").write_text("- a list")
    with pytest.raises(UserError, match="must be a mapping of settings"):
        AnswerFolder(tmp_path, SETTINGS)


def test_the_result_holds_no_non_finite_number(tmp_path: Path) -> None:
    folder = AnswerFolder(tmp_path, SETTINGS)
    folder.write_result({"good": 1.0, "bad": float("nan")})
    assert json.loads(folder.result_path.read_text()) == {"good": 1.0}


@pytest.mark.parametrize(
    ("text", "name"), [("gsm8k", "gsm8k"), ("a/b c.jsonl", "a-b-c.jsonl"), ("..", "data"), ("été", "été")]
)
def test_file_names(text: str, name: str) -> None:
    assert file_name(text) == name
