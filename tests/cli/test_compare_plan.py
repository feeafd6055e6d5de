"""What a comparison is asked to do: arms, seeds, their settings, and the mistakes one makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from masa.cli.compare_plan import Plan, read_plan
from masa.cli.job import read_job
from masa.errors import UserError

BASE: dict[str, Any] = {
    "preset": "masa-efficient",
    "data": {"source": "bundled", "size": 32},
    "heldout": {"data": {"source": "bundled", "size": 16, "split": "heldout"}, "every": 2},
    "problems_per_step": 4,
    "num_generations": 4,
    "max_steps": 40,
    "min_solution_length": 8,
}


def plan(tmp_path: Path, *assignments: str, config: dict[str, Any] | None = None, **options: Any) -> Plan:
    path = tmp_path / "arms.yaml"
    path.write_text(yaml.safe_dump(BASE | (config or {}), sort_keys=False))
    return read_plan(path, assignments, **options)


def test_arms_take_their_presets_values_and_runs_go_seed_by_seed(tmp_path: Path) -> None:
    found = plan(tmp_path, arms="grpo,masa-efficient", seeds="0,1")
    assert [run.name for run in found.runs] == ["grpo-0", "masa-efficient-0", "grpo-1", "masa-efficient-1"]
    grpo, efficient, later, _ = (run.settings for run in found.runs)
    assert (grpo["num_meta_generations"], grpo["gate"], grpo["parallel_steps"]) == (0, "none", "never")
    assert (efficient["num_meta_generations"], efficient["gate"], efficient["parallel_steps"]) == (4, "self", 120)
    assert {key for key in grpo if grpo[key] != later[key]} == {"seed"}
    assert found.notes == []


def test_the_default_is_the_methods_preset_against_grpo() -> None:
    found = read_plan(None, [])
    assert found.arms == ["grpo", "masa-efficient"]
    assert [run.seed for run in found.runs] == [0, 0, 1, 1, 2, 2]
    assert found.runs[0].settings["heldout"]["every"] == 13  # a tenth of 130 steps
    assert "every 13 steps" in found.notes[0]
    assert found.runs[1].settings["parallel_steps"] == 50


def test_the_default_runs_phases_are_its_own_presets_alone() -> None:
    found = read_plan(None, [], arms="grpo,greso,masa-plus,masa-efficient", seeds="0")
    assert [run.settings["parallel_steps"] for run in found.runs] == ["never", 0, 0, 50]
    assert not any("parallel_steps" in note for note in found.notes)
    given = read_plan(None, ["parallel_steps=7"], arms="grpo,masa-plus", seeds="0")
    assert [run.settings["parallel_steps"] for run in given.runs] == [7, 7]
    assert read_job(None, {"preset": "greso"}, []).args.parallel_steps == 0
    assert read_job(None, {}, ["preset=greso", "parallel_steps=7"]).args.parallel_steps == 7
    assert read_job(None, {}, []).args.parallel_steps == 50


@pytest.mark.parametrize(
    ("key", "value"), [("temperature", 0.5), ("max_completion_length", 64), ("loss_denominator", "all")]
)
def test_an_arm_measured_or_averaged_otherwise_is_noted(tmp_path: Path, key: str, value: Any) -> None:
    found = plan(tmp_path, config={"arms": {"grpo": {}, "masa": {key: value}}}, seeds="0")
    assert any(note.startswith(f"Unequal conditions, as asked for: {key} is {value!r} in masa") for note in found.notes)


def test_an_arms_contradiction_names_the_arm(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"arm greso: unknown gate .*did you mean 'hidden-state'"):
        plan(tmp_path, "arms.greso.gate=hiden-state", arms="grpo,greso")


def test_a_file_defines_arms_seeds_and_baseline(tmp_path: Path) -> None:
    arms = {"grpo": None, "bold": {"preset": "masa", "learning_rate": 1e-3}}
    found = plan(tmp_path, "arms.bold.meta_weight=0.5", config={"arms": arms, "seeds": [3], "baseline": "bold"})
    assert (found.arms, found.baseline, [run.seed for run in found.runs]) == (["grpo", "bold"], "bold", [3, 3])
    bold = found.runs[1].settings
    assert (bold["preset"], bold["learning_rate"], bold["meta_weight"]) == ("masa", 1e-3, 0.5)
    assert found.runs[0].settings["meta_weight"] == 1.0
    # Options win over the file.
    assert plan(tmp_path, config={"arms": arms}, arms="grpo", seeds="1", baseline="grpo").arms == ["grpo"]


@pytest.mark.parametrize("seeds", [[0, 4], "0, 4", ["0", 4]])
def test_seeds_as_people_write_them(tmp_path: Path, seeds: Any) -> None:
    assert [run.seed for run in plan(tmp_path, config={"seeds": seeds}, arms="grpo").runs] == [0, 4]


def test_an_unequal_condition_is_noted_where_it_was_asked_for(tmp_path: Path) -> None:
    found = plan(tmp_path, config={"arms": {"grpo": {}, "masa": {"num_generations": 8}}})
    assert any("num_generations is 8 in masa, 4 in grpo" in note for note in found.notes)


def test_a_budget_holds_for_every_run(tmp_path: Path) -> None:
    found = plan(tmp_path, arms="grpo", budget={"max_tokens": 1000, "max_minutes": None})
    assert all(run.settings["max_tokens"] == 1000 for run in found.runs)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ({}, {"arms": "grpo,masa-eficient"}, ["masa-eficient", "did you mean 'masa-efficient'"]),
        ({}, {"arms": "grpo,masa,grpo"}, ["'grpo' is named twice"]),
        ({}, {"arms": ","}, ["names no arm"]),
        ({}, {"arms": "masa,masa-expert"}, ["baseline 'grpo' is not among the arms", "--baseline"]),
        ({}, {"arms": "grpo", "baseline": "masa"}, ["baseline 'masa'"]),
        ({}, {"arms": "grpo", "seeds": "0,1,0"}, ["seed 0 is named twice"]),
        ({}, {"arms": "grpo", "seeds": "0,x"}, ["'x' is no seed"]),
        ({"seeds": [-1]}, {"arms": "grpo"}, ["'-1' is no seed"]),
        ({"seeds": []}, {"arms": "grpo"}, ["seeds is empty"]),
        ({"arms": {"grpo": {}, "mine": {}}}, {}, ["arms.mine has no preset"]),
        ({"arms": {"grpo": {"seed": 1}}}, {}, ["arms.grpo sets seed"]),
        ({"arms": {"grpo": 3}}, {}, ["arms.grpo must be a mapping"]),
        ({"arms": 3}, {}, ["arms must map"]),
        ({"arms": {"grpo": {"learning_rat": 1}}}, {}, ["arm grpo", "did you mean 'learning_rate'"]),
        ({"arms": {"a/b": {"preset": "grpo"}}, "baseline": "a/b"}, {}, ["cannot name a file"]),
        ({"heldout": None}, {"arms": "grpo"}, ["heldout"]),
        ({"heldout": {"solutions": 4}}, {"arms": "grpo"}, ["heldout has no data"]),
        (
            {"problems_per_step": None, "arms": {"grpo": {}, "masa": {"gradient_accumulation_steps": 4}}},
            {},
            ["arm masa has problems_per_step", "equal conditions"],
        ),
    ],
)
def test_mistakes_are_named_with_their_remedy(
    tmp_path: Path, config: dict[str, Any], options: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        plan(tmp_path, config=config, **options)
    assert all(word in str(caught.value) for word in words), caught.value
