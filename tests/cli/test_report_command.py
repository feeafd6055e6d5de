"""`masa report` of several runs: which runs are one arm, and what it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masa.cli.report import write
from masa.errors import UserError
from masa.runs import RunFolder


def make_run(path: Path, accuracy: float, **settings: Any) -> Path:
    folder = RunFolder.create(path, {"preset": "grpo", "learning_rate": 1e-4, **settings})
    for step in (1, 2):
        folder.append_metrics(step, {"tokens/generated": 1000 * step, "time/update": 2.0})
    for step in (0, 2):
        row = {"step": step, "tokens": 500 * step, "seconds": 2.0 * step, "pass_at_1": accuracy * (step + 2) / 4}
        folder.append_evaluation(row)
    folder.write_ledger({"steps": 2, "generated_tokens": 2000, "policy_updates": 2, "seconds": {"update": 4.0}})
    return path


def page_of(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    return source[source.index("<body") : source.index('<script type="application/json"')]


def test_runs_that_differ_by_their_seed_are_one_arm(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"base-{seed}", 0.5, seed=seed) for seed in (0, 1)]
    runs += [make_run(tmp_path / "masa-0", 0.6, seed=0, preset="masa")]
    page = page_of(write(runs))
    assert (tmp_path / "comparison.html").exists()
    assert "<h1>grpo · masa</h1>" in page
    assert "grpo (2 seeds)" in page
    assert "+10.0" in page  # of the same seed
    assert f"grpo: {runs[0]}, {runs[1]}." in page


def test_arms_of_one_preset_are_named_by_their_folders(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"slow-{seed}", 0.5, seed=seed) for seed in (0, 1)]
    runs += [make_run(tmp_path / "fast-0", 0.6, seed=0, learning_rate=1e-3)]
    page = page_of(write(runs, tmp_path / "page.html"))
    assert "<h1>slow · fast</h1>" in page
    assert "Settings that differ" in page


def test_a_single_run_has_its_own_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.5, seed=0)
    assert write([run]) == run / "report.html"


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    run, other = (make_run(tmp_path / name, 0.5, seed=0) for name in ("a", "b"))
    with pytest.raises(UserError, match="have the same settings and seed: give one of them"):
        write([run, other])
    bare = RunFolder.create(tmp_path / "bare", {"preset": "dapo"})
    bare.append_metrics(1, {"pass_rate": 0.5})
    with pytest.raises(UserError, match="bare has no held-out evaluation"):
        write([run, bare.path])
    with pytest.raises(UserError, match="holds no run"):
        write([run, tmp_path])
