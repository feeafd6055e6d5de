"""What a run leaves to a comparison, from a folder written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masa.errors import UserError
from masa.evaluation.run_result import MAX_STEPS, differing_settings, run_result
from masa.runs import RunFolder

EVALUATION = {"step": 0, "tokens": 0, "seconds": 0.0, "pass_at_1": 0.25, "brier": 0.2}


def made(folder: RunFolder) -> dict[str, Any]:
    return run_result(folder, arm="grpo", seed=3, settings={"lr": 0.1}, machine={"cores": 2})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {"lr": 0.1}, seeds={"seed": 3})


def test_long_series_are_thinned_and_keep_their_ends(folder: RunFolder) -> None:
    folder.append_evaluation(EVALUATION)
    for step in range(1, 1000):
        folder.append_metrics(
            step, {"tokens/generated": 10 * step, "time/rollout": 0.25, "time/step": 1.0, "time/processor": 0.5}
        )
    by_step = made(folder)["by_step"]
    assert len(by_step["step"]) <= MAX_STEPS
    assert (by_step["step"][0], by_step["step"][-1]) == (1, 999)
    assert by_step["seconds"][-1] == pytest.approx(999 * 0.25)
    assert by_step["live_tokens"] == [None] * len(by_step["step"])


def test_awareness_and_versions_come_along(folder: RunFolder) -> None:
    folder.append_evaluation(EVALUATION)
    folder.append_evaluation(EVALUATION | {"step": 2, "tokens": 50, "seconds": 1.5, "pass_rates": [0.0, 1.0]})
    result = made(folder)
    assert [row["awareness"] for row in result["curve"]] == [{"brier": 0.2}] * 2
    assert result["pass_rates"] == [0.0, 1.0]
    assert result["versions"]["python"]
    assert result["gate"] == {}


def test_a_run_that_cannot_be_compared_is_refused(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="no held-out evaluation"):
        made(folder)
    folder.append_evaluation({key: value for key, value in EVALUATION.items() if key != "seconds"})
    with pytest.raises(UserError, match="step 0 lacks seconds"):
        made(folder)


def test_settings_are_the_same_wherever_a_run_is_written() -> None:
    here, there = {"lr": 0.1, "output_dir": "a", "old": 1}, {"lr": 0.1, "output_dir": "b", "new": 2}
    assert differing_settings(here, there) == []  # what only one version knows does not count
    assert differing_settings(here, {"lr": 0.2}) == ["lr"]
