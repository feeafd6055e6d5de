"""`masa compare` as a user runs it: two arms, two seeds, a rerun of what is missing, an arm that fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from masa.cli import main

CONFIG: dict[str, Any] = {
    "arms": {"grpo": {}, "masa": {}, "broken": {"preset": "grpo", "reward": "rewards:broken"}},
    "data": {"source": "bundled", "size": 16},
    "heldout": {
        "data": {"source": "bundled", "size": 4, "split": "heldout"},
        "solutions": 2,
        "predictions": 2,
        "every": 1,
    },
    "problems_per_step": 2,
    "num_generations": 2,
    "max_steps": 2,
    "max_completion_length": 64,
    "max_meta_length": 64,
    "min_solution_length": 8,
    "meta_prompt": "brief",
    "save_strategy": "steps",
    "save_steps": 1,
}


class Shell:
    """The command in this process, its runs in their own: starting a Python with torch takes seconds each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def compare(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["masa", "compare", "arms.yaml", "--output", "out", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0), *self._capsys.readouterr()


def test_a_comparison_its_rerun_and_an_arm_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shell = Shell(monkeypatch, capsys)
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "rewards.py").write_text("def broken(**_):\n    raise RuntimeError('no reward today')\n")

    code, out, err = shell.compare("--arms", "grpo,masa", "--seeds", "0,1", "--dry-run")
    assert code == 0, err
    assert "masa-1: start" in out
    assert not (tmp_path / "out").exists()

    code, out, err = shell.compare("--arms", "grpo,masa", "--seeds", "0,1", "--json")
    assert code == 0, err
    comparison = json.loads(out)
    assert comparison == json.loads((tmp_path / "out/comparison.json").read_text())
    grpo, masa = comparison["arms"][:2]
    assert (grpo["arm"], grpo["seeds"], masa["seeds"]) == ("grpo", [0, 1], [0, 1])
    # The same weights, problems and draws before the first step.
    assert [run["pass_at_1"][0] for run in grpo["runs"]] == [run["pass_at_1"][0] for run in masa["runs"]]
    assert all(run["tokens"][0] == run["seconds"][0] == 0 < run["seconds"][1] for run in grpo["runs"])
    assert masa["at_equal"]["tokens"][-1]["difference"]["n"] == 2
    assert grpo["ledger"]["tokens"]["meta"]["mean"] == 0 < masa["ledger"]["tokens"]["meta"]["mean"]
    assert comparison["settings"]["differing"]["num_meta_generations"] == {"grpo": 0, "masa": 2}
    assert "| pass@1 at " in (tmp_path / "out/comparison.md").read_text()
    assert (tmp_path / "out/comparison.html").stat().st_size > 100_000
    results = {path.name: path for path in (tmp_path / "out/results").iterdir()}
    assert len(results) == 4
    assert all(path.stat().st_size < 50_000 for path in results.values())

    before = {name: path.stat().st_mtime_ns for name, path in results.items()}
    results["grpo-0.json"].unlink()
    code, out, err = shell.compare("--seeds", "0")  # the file's arms, `broken` among them
    assert code == 1, err
    assert "1 of 3 runs failed" in err
    assert "no reward today" in err.splitlines()[-1]
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/results").iterdir()}
    assert [name for name in before if after.get(name) != before[name]] == ["grpo-0.json"]
    assert "grpo (1 seed)" in out
    assert "Missing: broken-0" in out

    code, out, err = shell.compare("--arms", "grpo", "--seeds", "0", "--set", "learning_rate=0.5")
    assert code == 2
    assert "learning_rate: 1e-06 there, 0.5 now" in err
