"""A resumed run is the uninterrupted one, bit for bit: every preset, every predictor, every place of the checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_contents import left_behind, tensors

from masa.awareness import PREDICTORS
from masa.errors import UserError
from masa.runs import RunFolder
from masa.training.checkpoint import STATE_FILE
from masa.training.presets import NEVER, PRESETS
from masa.training.trainer import MASATrainer

pytestmark = pytest.mark.usefixtures("a_random_model_foretells")

MakeTrainer = Callable[..., MASATrainer]
STEPS = 6
"""Two epochs of three steps: positions 1, 2, 4 and 5 lie within one, 3 between them."""
FIRST_PREDICTIVE = 3
"""With two parallel steps, where the preset has phases: position 2 lies just before the switch."""

RESUMED: dict[str, dict[str, Any]] = {
    **{preset: {"preset": preset} for preset in PRESETS},
    **{
        gate: {"preset": "greso", "gate": gate, "max_gated_share": 0.5, "refill": "before"}
        for gate in ("history", "posterior", "hidden-state", "stacked")
    },
    **{gate: {"preset": "masa-efficient", "gate": gate} for gate in ("self", "in-context", "combined")},
    "auto": {"preset": "masa-plus", "parallel_steps": "auto", "cutoff": True, "cutoff_rule": "quantile"},
    "knapsack": {
        "preset": "masa-efficient",
        "gate": "combined",
        "allocation": "knapsack",
        "allocation_least": 2,
        "meta_problems": "unseen",
    },
    "warm start": {"preset": "masa-efficient", "warm_start": 4, "warm_start_updates": 2},
}
EVERYWHERE = ("masa-efficient", "masa-expert", "knapsack")
"""What is resumed from every position; the others from one each, which `make test-slow` completes."""
QUICK = [
    (name, position)
    for number, name in enumerate(RESUMED)
    for position in (range(1, STEPS) if name in EVERYWHERE else [1 + number % (STEPS - 1)])
]
REST = [(name, position) for name in RESUMED for position in range(1, STEPS) if (name, position) not in QUICK]


def settings_of(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "expert_buffer_size": 6}
    settings |= {"expert_threshold": 0.0, "max_steps": STEPS} | RESUMED[name]
    preset = PRESETS[settings["preset"]]
    if preset["parallel_steps"] not in (NEVER, 0):
        settings = {"parallel_steps": FIRST_PREDICTIVE - 1} | settings
    if preset["expert_sft"]:
        settings["expert_include_unsolved"] = True
    return settings


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs that went through, by name; filled by the tests."""
    return {"": tmp_path_factory.mktemp("uninterrupted")}


def resumed_equals(name: str, position: int, make_trainer: MakeTrainer, whole: dict[str, Path], tmp_path: Path) -> None:
    settings = settings_of(name)
    if name not in whole:
        output = whole[""] / name
        make_trainer(**settings, output_dir=str(output)).train()
        whole[name] = output
    run = tmp_path / "run"
    shutil.copytree(whole[name], run)
    trainer = make_trainer(**settings, output_dir=str(run))
    trainer.train(resume_from_checkpoint=str(run / f"checkpoint-{position}"))
    expected, found = left_behind(whole[name], STEPS), left_behind(run, STEPS)
    for part in expected:
        assert found[part] == expected[part], part
    assert found.keys() == expected.keys()
    there, here = tensors(whole[name], STEPS), tensors(run, STEPS)
    assert there.keys() == here.keys()
    assert [key for key in there if not torch.equal(there[key], here[key])] == []


@pytest.mark.parametrize(("name", "position"), QUICK)
def test_a_resumed_run_is_the_uninterrupted_one(
    name: str, position: int, make_trainer: MakeTrainer, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    resumed_equals(name, position, make_trainer, uninterrupted, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "position"), REST)
def test_a_resumed_run_is_the_uninterrupted_one_from_every_position(
    name: str, position: int, make_trainer: MakeTrainer, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    resumed_equals(name, position, make_trainer, uninterrupted, tmp_path)


def test_the_runs_that_are_resumed_do_what_could_go_wrong(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """The above would prove little if no predictor were used, no rollout cut or no buffer filled in part."""
    used = {settings.get("gate") or PRESETS[settings["preset"]]["gate"] for settings in RESUMED.values()}
    assert used == set(PREDICTORS) | {"none"}
    run = tmp_path / "run"
    trainer = make_trainer(**settings_of("masa-efficient"), output_dir=str(run))
    trainer.train()
    assert trainer.ledger.cut_rollouts > 0
    states = [json.loads((run / f"checkpoint-{n}" / STATE_FILE).read_text()) for n in range(1, STEPS + 1)]
    filled = [len(state["expert"]["trajectories"]) for state in states]
    assert 0 in filled
    assert any(0 < count < 6 for count in filled)
    assert trainer.ledger.expert_updates > states[0]["ledger"]["expert_updates"]
    phases = [row["phase"] for row in RunFolder.open(run).read_metrics()]
    assert phases == ["parallel"] * (FIRST_PREDICTIVE - 1) + ["predictive"] * (STEPS - FIRST_PREDICTIVE + 1)
    orders = [[row["problem"] for row in RunFolder.open(run).read_rollouts(n)] for n in (1, 4)]
    assert orders[0] != orders[1]  # the second epoch is not the first again


def test_a_finished_run_does_no_further_step_when_resumed(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Killed between the last checkpoint and the report: two thirds into an epoch, where a step would be left."""
    settings = {"preset": "grpo", "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    whole = make_trainer(**settings)
    whole.train()
    before = left_behind(tmp_path / "run", 2)
    again = make_trainer(**settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 2
    assert left_behind(tmp_path / "run", 2) == before
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_going_back_forgets_later_checkpoints_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    settings = {"preset": "grpo", "save_strategy": "steps", "save_steps": 1}
    make_trainer(**settings, max_steps=3).train()
    make_trainer(**settings, max_steps=2).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    found = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert found == ["checkpoint-1", "checkpoint-2"]
    assert [row["step"] for row in RunFolder.open(tmp_path / "run").read_metrics()] == [1, 2]


def test_a_checkpoint_of_other_settings_is_refused_by_name_and_value(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"preset": "masa", "save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    make_trainer(**settings).train()
    checkpoint = str(tmp_path / "run" / "checkpoint-1")
    changed = settings | {"learning_rate": 0.5, "expert_buffer_size": 7}
    with pytest.raises(UserError, match=r"2 setting\(s\) differ.*expert_buffer_size: 128 there, 7 now.*learning_rate"):
        make_trainer(**changed).train(resume_from_checkpoint=checkpoint)
    # The folder's own settings agree, and it is another run's checkpoint.
    other = make_trainer(**changed, output_dir=str(tmp_path / "other"))
    other.train()
    before = RunFolder.open(tmp_path / "other").read_metrics()
    again = make_trainer(**changed, output_dir=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"2 setting\(s\) differ.*expert_buffer_size: 128 there, 7 now.*learning_rate"):
        again.train(resume_from_checkpoint=checkpoint)
    assert RunFolder.open(tmp_path / "other").read_metrics() == before
    with pytest.raises(UserError, match="no whole checkpoint"):
        make_trainer(**settings, output_dir=str(tmp_path / "third")).train(resume_from_checkpoint=True)


def test_the_best_checkpoint_is_kept_and_named_where_it_is(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(preset="grpo", save_strategy="steps", save_steps=1, save_total_limit=2, max_steps=4)

    def choose(row: dict[str, Any]) -> None:
        trainer.state.best_global_step = 2 if row["step"] >= 2 else None

    trainer.step_listeners.append(choose)
    trainer.train()
    best = tmp_path / "run" / "checkpoint-2"
    assert sorted(path.name for path in best.parent.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    for folder in (best, best.with_name("checkpoint-4")):
        state = json.loads((folder / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == str(best)
