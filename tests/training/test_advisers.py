"""Who decides how rollouts are spent follows from the settings."""

from __future__ import annotations

from typing import Any

import pytest

from masa.awareness import CalibratedRule, ExplorationRule, FixedPhases, PaperRule, PhaseSwitch
from masa.training.advisers import make_advisers
from masa.training.config import MASAConfig


def config(tmp_path: Any, **settings: Any) -> MASAConfig:
    return MASAConfig(output_dir=str(tmp_path), use_cpu=True, problems_per_step=8, **settings)


@pytest.mark.parametrize(
    ("settings", "predictor", "rule"),
    [
        ({"preset": "masa-efficient"}, "self", PaperRule),
        ({"preset": "masa-efficient", "gate_rule": "calibrated"}, "self", CalibratedRule),
        ({"preset": "greso"}, "history", ExplorationRule),
        ({"preset": "greso", "gate": "posterior"}, "posterior", CalibratedRule),
        ({"preset": "greso", "gate": "hidden-state"}, "hidden-state", CalibratedRule),
        ({"preset": "greso", "gate": "stacked"}, "stacked", CalibratedRule),
        ({"preset": "masa-efficient", "gate": "in-context"}, "in-context", PaperRule),
        ({"preset": "masa-efficient", "gate": "combined"}, "combined", CalibratedRule),
        ({"preset": "masa-plus"}, "stacked", CalibratedRule),
    ],
)
def test_each_predictor_has_the_rule_that_fits_it(
    tmp_path: Any, settings: dict[str, Any], predictor: str, rule: type
) -> None:
    advisers = make_advisers(config(tmp_path, **settings))
    assert advisers.predictor.name == predictor
    assert advisers.gate is not None
    assert type(advisers.gate.rule) is rule


def test_runs_without_a_gate_still_foretell_where_they_have_a_meta_path(tmp_path: Any) -> None:
    assert make_advisers(config(tmp_path, preset="masa")).predictor.name == "self"
    assert make_advisers(config(tmp_path, preset="grpo")).predictor.name == "none"
    assert make_advisers(config(tmp_path, preset="grpo")).gate is None


def test_settings_reach_the_advisers(tmp_path: Any) -> None:
    made = make_advisers(
        config(
            tmp_path,
            preset="masa-plus",
            gate_threshold=0.7,
            precision_floor=0.6,
            audit_rate=0.2,
            max_gated_share=0.5,
            cutoff=True,
            cutoff_rule="median",
            cutoff_factor=1.3,
            allocation="knapsack",
            allocation_least=2,
            parallel_steps="auto",
        )
    )
    assert made.gate is not None
    assert made.cutoff is not None
    assert made.gate.audit == pytest.approx(0.2 / 3)  # of the three quarters that are not among the best
    assert made.gate.max_share == 0.5
    assert made.gate.rule == CalibratedRule(group_size=8, threshold=0.7)
    assert (made.cutoff.factor, made.cutoff.exempt) == (1.3, 0.2)
    assert isinstance(made.phases, PhaseSwitch)
    assert made.phases.floor == 0.6
    assert made.allocation is not None
    assert (made.allocation.least, made.allocation.most) == (2, 16)


def test_a_number_of_parallel_steps_is_kept(tmp_path: Any) -> None:
    phases = make_advisers(config(tmp_path, preset="masa-efficient", parallel_steps=3)).phases
    assert isinstance(phases, FixedPhases)
    assert [phases.is_predictive(step) for step in (3, 4)] == [False, True]
    assert not make_advisers(config(tmp_path, preset="masa")).phases.is_predictive(10**6)
