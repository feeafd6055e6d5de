"""Groups of unequal size: who gets how many rollouts, and what a row of each weighs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from masa.awareness import Estimate, Evidence, Predictor, group_advantages
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]

KNAPSACK = {
    "preset": "masa-efficient",
    "parallel_steps": 0,
    "allocation": "knapsack",
    "allocation_least": 2,
    "cutoff": False,
    "hints": False,
    "audit_rate": 0.0,
}


class Uneven(Predictor):
    """Half of the problems are an even bet, the others nearly hopeless."""

    name = "uneven"
    uses_predictions = True

    def estimate(self, evidence: Evidence) -> Estimate:
        rate = 0.5 if evidence.problem.key % 2 else 0.03
        return Estimate(pass_rate=rate, deviation=0.02, length=10.0, valid=4, abstains=False)


def test_even_bets_get_more_rollouts_than_hopeless_ones_in_the_same_budget(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**KNAPSACK, gate_std=0.0)
    trainer.experience.advisers.predictor = Uneven()
    groups = [group for step in range(1, 6) for group in trainer.experience.make(step).groups]
    sizes = {odd: [len(g.solution.rollouts) for g in groups if g.problem.key % 2 == odd] for odd in (0, 1)}
    assert sum(sizes[1]) / len(sizes[1]) > sum(sizes[0]) / len(sizes[0])
    assert max(sizes[0] + sizes[1]) <= 8
    assert sum(sizes[0]) + sum(sizes[1]) <= 4 * len(groups)


def test_rows_of_unequal_groups_weigh_their_problems_alike(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**KNAPSACK, gate_std=0.0)
    trainer.experience.advisers.predictor = Uneven()
    experience = trainer.experience.make(1)
    rolled_out = [group for group in experience.groups if group.solution.rollouts]
    sizes = [len(group.solution.rollouts) for group in rolled_out]
    assert len(set(sizes)) > 1
    mean = sum(sizes) / len(sizes)
    rows = iter([row for row in experience.rows if row.path == "solution"])
    for group, size in zip(rolled_out, sizes, strict=True):
        mine = [next(rows) for _ in range(size)]
        assert [row.weight for row in mine] == [mean / size] * size
        expected = [a * size / (size - 1) * 3 / 4 for a in group_advantages(group.solution.rewards)]
        assert [row.advantage for row in mine] == pytest.approx(expected)


def test_uniform_groups_have_plain_rows(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa")
    experience = trainer.experience.make(1)
    assert {row.weight for row in experience.rows} == {1.0}
    for group in experience.groups:
        assert group.solution.advantages == group_advantages(group.solution.rewards)


def test_audited_meta_groups_may_weigh_more(make_trainer: MakeTrainer) -> None:
    class Hopeless(Uneven):
        def estimate(self, evidence: Evidence) -> Estimate:
            return Estimate(pass_rate=0.0, deviation=0.0, length=5.0, valid=4, abstains=False)

    settings = KNAPSACK | {"allocation": "uniform", "audit_rate": 0.5, "max_gated_share": 1.0}
    for most, weight in ((1.0, 1.0), (4.0, 2.0)):
        trainer = make_trainer(**settings, meta_audit_weight=most)
        trainer.experience.advisers.predictor = Hopeless()
        experience = trainer.experience.make(2)
        assert any(group.is_audited for group in experience.groups)
        assert {row.weight for row in experience.rows if row.path == "meta"} == {weight}
        assert {row.weight for row in experience.rows if row.path == "solution"} == {1.0}
