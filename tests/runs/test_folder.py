"""The run folder: every step once, whole files only, no other run overwritten."""

from __future__ import annotations

import gzip
import json
import math
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import yaml

from masa.errors import UserError
from masa.runs import RUN_KEY, RunFolder, read_evaluations, read_metrics, read_rollouts

CONFIG = {"model": "tiny", "learning_rate": 1e-4, "gate": {"std": 0.1}, "output": Path("runs/a")}


class Preset(Enum):
    MASA = "masa"


def test_config_holds_settings_versions_and_seeds(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {**CONFIG, "preset": Preset.MASA, "k": (1, 8)}, seeds={"run": 7})
    config = yaml.safe_load(folder.config_path.read_text())
    assert config["output"] == "runs/a"
    assert config["preset"] == "masa"
    assert config["k"] == [1, 8]
    assert config[RUN_KEY]["seeds"] == {"run": 7}
    assert set(config[RUN_KEY]["versions"]) == {"python", "torch", "transformers", "trl", "masa"}


@pytest.mark.parametrize("trace", ["metrics.jsonl", "checkpoint-20"])
def test_refuses_a_folder_with_another_run(tmp_path: Path, trace: str) -> None:
    (tmp_path / trace).write_text("")
    with pytest.raises(UserError, match=r"holds another run.*--resume.*--output"):
        RunFolder.create(tmp_path, CONFIG)
    assert (tmp_path / trace).read_text() == ""


def test_takes_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert RunFolder.create(tmp_path, CONFIG).config_path.exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        RunFolder.create(tmp_path / "out", CONFIG)


def test_resume_wants_the_same_settings_and_names_the_others(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, CONFIG, seeds={"run": 1})
    RunFolder.create(tmp_path, CONFIG, seeds={"run": 1}, resume=True)
    changed = {**CONFIG, "gate": {"std": 0.2}, "hints": True}
    with pytest.raises(UserError, match=r"gate\.std: 0\.1 there, 0\.2 now; hints: '\(not set\)' there, True now"):
        RunFolder.create(tmp_path, changed, seeds={"run": 1}, resume=True)
    with pytest.raises(UserError, match="seeds"):
        RunFolder.create(tmp_path, CONFIG, seeds={"run": 2}, resume=True)
    folder = RunFolder.create(tmp_path, changed, seeds={"run": 1}, resume=True, may_differ=("gate.std", "hints"))
    assert folder.read_config()["hints"] is True


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        RunFolder.create(tmp_path / "none", CONFIG, resume=True)


def test_a_change_of_versions_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunFolder.create(tmp_path, CONFIG).read_config()[RUN_KEY]
    monkeypatch.setattr("masa.runs.folder.package_versions", lambda: {"python": "9.9"})
    second = RunFolder.create(tmp_path, CONFIG, resume=True).read_config()[RUN_KEY]
    assert second["versions"] == first["versions"]
    assert second["resumed_with"] == [{"python": "9.9"}]


def test_metrics_stand_once_a_step(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    for step in (1, 2, 3):
        folder.append_metrics(step, {"loss": step / 2})
    assert folder.last_step() == 3
    with pytest.raises(ValueError, match="rewind"):
        folder.append_metrics(3, {"loss": 0.0})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3]


def test_nonfinite_values_never_reach_a_file(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG | {"limit": math.inf})
    folder.append_metrics(1, {"loss": math.nan, "reward": np.float32(0.5), "n": np.int64(3), "x": np.float32("inf")})
    folder.append_evaluation({"step": 1, "points": [[0.5, math.nan]], "by_task": {"a": math.inf, "b": 1.0}})
    folder.write_rollouts(1, [{"text": "NaN is only a word", "reward": math.nan}])
    folder.write_ledger({"seconds": {"update": math.inf}})
    assert read_metrics(tmp_path) == [{"step": 1, "reward": 0.5, "n": 3, "nonfinite": 2}]
    assert read_evaluations(tmp_path) == [{"step": 1, "points": [[0.5, None]], "by_task": {"b": 1.0}, "nonfinite": 2}]
    assert read_rollouts(tmp_path, 1) == [{"text": "NaN is only a word", "nonfinite": 1}]
    assert folder.read_ledger() == {"seconds": {}}
    assert folder.read_config()["limit"] == "inf"


def test_a_half_written_line_is_tolerated_and_removed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    folder.append_metrics(1, {"loss": 1.0})
    with folder.metrics_path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert [row["step"] for row in folder.read_metrics()] == [1]
    resumed = RunFolder.create(tmp_path, CONFIG, resume=True)
    resumed.append_metrics(2, {"loss": 0.5})
    assert [row["step"] for row in resumed.read_metrics()] == [1, 2]


def test_a_whole_line_without_newline_is_kept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    folder.metrics_path.write_bytes(b'{"step": 1}\n{"step": 2}')
    RunFolder.create(tmp_path, CONFIG, resume=True).append_metrics(3, {})
    assert [row["step"] for row in folder.read_metrics()] == [1, 2, 3]


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    folder.metrics_path.write_bytes(b'{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        folder.read_metrics()


def test_last_step_of_a_long_file(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    rows = [json.dumps({"step": step, "note": "x" * 90_000 if step == 3 else "x" * 30_000}) for step in range(1, 4)]
    folder.metrics_path.write_text("\n".join(rows) + "\n")
    assert folder.last_step() == 3
    folder.append_metrics(4, {})
    assert folder.last_step() == 4


def test_rewind_forgets_later_steps(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    for step in range(1, 6):
        folder.append_metrics(step, {"loss": 1.0})
        folder.write_rollouts(step, [{"step": step}])
        if step % 2 == 0:
            folder.append_evaluation({"step": step, "pass_at_1": 0.5})
    folder.rewind(3)
    assert [row["step"] for row in folder.read_metrics()] == [1, 2, 3]
    assert [row["step"] for row in folder.read_evaluations()] == [2]
    assert folder.steps() == [1, 2, 3]
    folder.append_metrics(4, {"loss": 0.9})


def test_an_evaluation_that_is_repeated_stands_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    folder.append_evaluation({"step": 0, "pass_at_1": 0.3})
    folder.append_evaluation({"step": 0, "name": "hard", "pass_at_1": 0.1})
    folder.append_evaluation({"step": 0, "pass_at_1": 0.4})
    assert [(row.get("name"), row["pass_at_1"]) for row in folder.read_evaluations()] == [("hard", 0.1), (None, 0.4)]


def test_rollout_files_have_deterministic_bytes(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b \ud800 \U0001f600\n", "reward": 1.0, "prediction": {"notions": ("sum",)}}]
    first = RunFolder.create(tmp_path / "a", CONFIG).write_rollouts(3, rows).read_bytes()
    second = RunFolder.create(tmp_path / "b", CONFIG).write_rollouts(3, rows).read_bytes()
    assert first == second
    assert first[4:8] == bytes(4)  # gzip's time field
    read = read_rollouts(tmp_path / "a", 3)
    assert read == [{"text": rows[0]["text"], "reward": 1.0, "prediction": {"notions": ["sum"]}}]


def test_a_damaged_step_file_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    path = folder.write_rollouts(1, [{"text": "x" * 1000}])
    path.write_bytes(gzip.compress(b"{}")[:-5])
    with pytest.raises(UserError, match="step-1"):
        folder.read_rollouts(1)
    with pytest.raises(UserError, match="does not exist"):
        folder.read_rollouts(2)


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(UserError, match="holds no run"):
        RunFolder.open(tmp_path)


def test_a_run_that_failed_before_its_first_step_does_not_stand_in_the_way(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG).append_evaluation({"step": 0, "pass_at_1": 0.5})
    again = RunFolder.create(tmp_path / "run", {**CONFIG, "preset": "grpo"})
    assert again.read_config()["preset"] == "grpo"


def test_a_budget_is_noted_and_is_the_last_ones(tmp_path: Path) -> None:
    def budget(given: dict[str, float] | None, *, resume: bool) -> object:
        folder = RunFolder.create(tmp_path / "run", CONFIG, resume=resume, budget=given)
        return folder.read_config()["run"].get("budget")

    assert budget({"max_tokens": 5}, resume=False) == {"max_tokens": 5}
    assert budget({"max_minutes": 0.5}, resume=True) == {"max_minutes": 0.5}
    assert budget(None, resume=True) is None


def test_a_small_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masa.runs.jsonlines.MOST_BYTES", 1000)
    folder = RunFolder(tmp_path)
    folder.write_rollouts(1, [{"text": "x" * 900}])
    assert len(folder.read_rollouts(1)) == 1
    folder.write_rollouts(2, [{"text": "x" * 1000}])
    with pytest.raises(UserError, match="more than 1000 bytes when unpacked"):
        folder.read_rollouts(2)
