"""How many problems a step draws: never too few to go on, never without end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from masa.awareness import Estimate, Evidence, Predictor
from masa.errors import UserError
from masa.training.refill import Refill
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]


def refill(mode: str, *, wanted: int = 4, limit: float = 3.0, problems: int = 100) -> Refill:
    over = 1.0 if mode == "none" else limit
    return Refill(SimpleNamespace(refill=mode, problems_a_step=wanted, draws_over_problems=over), problems)  # type: ignore[arg-type]


def groups(count: int, *, gated: bool = False, live: bool = False) -> list[Any]:
    return [SimpleNamespace(is_gated=gated, solution=SimpleNamespace(is_live=live)) for _ in range(count)]


def test_without_refill_a_step_draws_once() -> None:
    assert refill("none").missing([], []) == 4
    assert refill("none").missing([], groups(4, gated=True)) == 0
    assert refill("none").missing(groups(4), []) == 0


def test_before_the_rollouts_gated_problems_are_replaced_up_to_the_limit() -> None:
    part = refill("before")
    assert part.missing([], groups(3, gated=True) + groups(1)) == 3
    assert part.missing([], groups(7, gated=True) + groups(4)) == 0
    assert part.missing([], groups(10, gated=True) + groups(1)) == 1  # 12 in all
    assert part.missing([], groups(12, gated=True)) == 0
    assert part.missing(groups(4), []) == 0  # no second round of rollouts


def test_after_the_rollouts_dead_groups_are_replaced_up_to_the_limit() -> None:
    part = refill("after")
    assert part.missing(groups(3) + groups(1, live=True), []) == 3
    assert part.missing(groups(3) + groups(1, live=True), groups(3)) == 0
    assert part.missing(groups(3) + groups(4, live=True), []) == 0
    assert part.missing(groups(11), []) == 1
    assert part.missing(groups(12), []) == 0


def test_the_best_are_chosen_among_all_a_step_may_draw() -> None:
    assert refill("best").missing([], []) == 12
    assert refill("best", problems=10).missing([], []) == 10
    assert refill("best").missing([], groups(12)) == 0
    assert refill("best").missing(groups(4), []) == 0
    assert refill("best").missing([], [], foretold=False) == 4  # nothing to choose by


class Knowing(Predictor):
    """Certain that problems whose key is a multiple of three are worth their rollouts and others are not."""

    name = "knowing"

    def estimate(self, evidence: Evidence) -> Estimate:
        good = evidence.problem.key % 3 == 0
        return Estimate(0.5 if good else 0.0, deviation=0.01, length=60.0 if good else 30.0, abstains=False)


@pytest.mark.parametrize(("allocation", "good"), [("uniform", 4), ("knapsack", 2)])
def test_the_budget_of_a_step_goes_to_the_best_of_its_candidates(
    make_trainer: MakeTrainer, allocation: str, good: int
) -> None:
    trainer = make_trainer(
        preset="greso", gate_rule="calibrated", gate_threshold=1.0, refill="best", refill_limit=3.0, audit_rate=0.0,
        allocation=allocation, allocation_least=4, allocation_most=4,
    )  # fmt: skip
    trainer.experience.advisers.predictor = Knowing()
    groups = trainer.experience.make(1).groups
    assert len(groups) == 12
    chosen = [group for group in groups if group.solution.rollouts]
    # Four uniform groups; or in the tokens of four groups of the mean length, 40, two of 60 and one more of 30.
    assert len(chosen) == (4 if allocation == "uniform" else 3)
    assert sum(group.problem.key % 3 == 0 for group in chosen) == good
    assert {len(group.solution.rollouts) for group in chosen} == {4}
    assert all(group.is_gated for group in groups if group not in chosen)


def test_audits_of_the_best_are_a_share_of_what_is_rolled_out(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="greso", refill="best", refill_limit=3.0, audit_rate=0.1, gate_rule="calibrated")
    gate = trainer.experience.advisers.gate
    assert gate is not None
    assert gate.audit == pytest.approx(0.05)


def test_a_rule_that_skips_everything_leaves_the_best_of_what_must_not_starve(make_trainer: MakeTrainer) -> None:
    class Hopeless(Predictor):
        name = "hopeless"

        def estimate(self, evidence: Evidence) -> Estimate:
            return Estimate(pass_rate=0.001 * evidence.problem.key, deviation=0.001, abstains=False)

    trainer = make_trainer(
        preset="greso", gate_rule="calibrated", gate_threshold=0.5, refill="best", refill_limit=3.0, audit_rate=0.0,
        max_gated_share=0.5,
    )  # fmt: skip
    trainer.experience.advisers.predictor = Hopeless()
    groups = trainer.experience.make(1).groups
    assert {group.problem.key for group in groups if group.solution.rollouts} == {8, 9, 10, 11}


def test_a_small_training_set_ends_a_step_before_the_limit_does() -> None:
    assert refill("after", problems=5).missing(groups(4), []) == 1
    with pytest.raises(UserError, match="a step draws 4 problems but the training set has 3"):
        refill("none", problems=3)


def test_dynamic_sampling_draws_until_it_has_live_groups(make_trainer: MakeTrainer) -> None:
    def one_in_three(completions: list[Any], prompts: list[Any], **_: Any) -> list[float]:
        return [float(i % 2 and len(str(p)) and int(str(p).split("'content': '")[1].split()[0]) % 3 == 0)
                for i, p in enumerate(prompts)]  # fmt: skip

    trainer = make_trainer(one_in_three, preset="dapo", refill_limit=2.0)
    experience = trainer.experience.make(1)
    keys = [group.problem.key for group in experience.groups]
    assert len(keys) == len(set(keys)) == 8  # twice the four wanted, since only a third is live
    live = [group for group in experience.groups if group.solution.is_live]
    assert {group.problem.key for group in live} == {key for key in keys if key % 3 == 0}
    assert len(experience.groups) > 4


def test_rewards_that_never_vary_end_at_the_limit_and_do_not_kill_the_run(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(lambda completions, **_: [0.0] * len(completions), preset="dapo", max_steps=2)
    trainer.train()
    assert trainer.ledger.steps_without_live_group == 2
    assert trainer.ledger.solution_rollouts == 2 * 12 * 4  # all twelve problems, no more


def test_a_step_that_finds_enough_live_groups_at_once_draws_no_more(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(lambda completions, **_: [float(i % 2) for i in range(len(completions))], preset="dapo")
    assert len(trainer.experience.make(1).groups) == 4


def test_the_gates_share_is_of_all_draws_and_abstentions_are_measured(make_trainer: MakeTrainer) -> None:
    class Hopeless(Predictor):
        name = "hopeless"

        def estimate(self, evidence: Evidence) -> Estimate:
            return Estimate(pass_rate=0.0, deviation=0.0, abstains=evidence.problem.key >= 8)

    settings = {"preset": "greso", "gate_rule": "paper", "audit_rate": 0.0, "max_gated_share": 0.75}
    trainer = make_trainer(**settings, refill_limit=3.0)
    trainer.experience.advisers.predictor = Hopeless()
    groups = trainer.experience.make(1).groups
    decisions = [group.decision for group in groups if group.decision is not None]
    # A draw of one or two problems may be skipped as a whole, as long as a quarter of the step's passes.
    assert not any(decision.let_through for decision in decisions)
    assert sum(decision.gated for decision in decisions) <= 0.75 * len(decisions)
    trainer = make_trainer(**settings, max_steps=1)
    metrics: dict[str, Any] = {}
    trainer.step_listeners.append(metrics.update)
    trainer.train()
    assert metrics["predictor/abstained"] == 1.0  # nothing is known at the first step
