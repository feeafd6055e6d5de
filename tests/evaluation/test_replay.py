"""Gates and limits replayed on logs: by hand, against a plain count over the rows, and blind to what was withheld."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import BY_HAND, Group, random_groups, rows, write

from masa.awareness.gate import Gate
from masa.awareness.gate_rules import CalibratedRule, ExplorationRule, PaperRule
from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.history import HistoryPredictor
from masa.awareness.predictors.posterior import PosteriorPredictor
from masa.evaluation.log_probe import probe_log
from masa.evaluation.logged_rollouts import LoggedRollouts, read_log
from masa.evaluation.replay import replay_gate
from masa.evaluation.replay_cutoff import replay_cutoffs
from masa.seeding import Purpose, derive_uniform


def log_of(path: Path, groups: Sequence[Group]) -> LoggedRollouts:
    return read_log(write(path / "log.jsonl", rows(groups)))


class LastTime(Predictor):
    """Foretells what it saw last, and notes what it was shown."""

    name = "last-time"

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}
        self.seen: list[tuple[int, int]] = []
        self.probabilities: list[float] = []

    def estimate(self, evidence: Evidence) -> Estimate:
        rate = self.rates.get(evidence.problem.key)
        return Estimate() if rate is None else Estimate(pass_rate=rate, deviation=0.0, abstains=False)

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        for observation in observations:
            self.rates[observation.evidence.problem.key] = observation.outcome.pass_rate
            self.seen.append((step, observation.evidence.problem.key))
            self.probabilities.append(observation.probability)


def test_a_gate_by_hand(tmp_path: Path) -> None:
    # Problems a and b are known at their second visits; both had no variance, and are skipped from then on.
    log, predictor = log_of(tmp_path, BY_HAND), LastTime()
    found = replay_gate(log, predictor, Gate(0, PaperRule(), audit=0, max_share=1))
    assert predictor.seen == [(1, 0), (1, 1), (2, 2)]
    assert (found.known, found.candidates, found.skipped, found.audited) == (3, 3, 3, 0)
    assert found.tokens_saved == 40 + 30 + 130
    assert found.tokens_saved_share == 0.5
    # One of three candidates (a in step 3) has no variance, of three such groups.
    assert (found.precision.share, found.recall.share) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.f1 == pytest.approx(1 / 3)
    assert (found.base_rate.share, found.base_rate.of) == (0.5, 6)
    assert (found.lost.share, found.lost.of) == (pytest.approx(2 / 3), 3)


def test_an_audit_saves_nothing_and_is_seen(tmp_path: Path) -> None:
    log, predictor = log_of(tmp_path, BY_HAND), LastTime()
    found = replay_gate(log, predictor, Gate(0, PaperRule(), audit=0.999, max_share=1))
    assert (found.skipped, found.tokens_saved, found.lost.share) == (0, 0, 0)
    assert len(predictor.seen) == 6
    # In step 3 problem a is known to have had variance in step 2, and is no candidate.
    assert (found.candidates, found.audited) == (2, 2)
    assert predictor.probabilities == [1, 1, 0.999, 1, 1, 0.999]


def count_skips(
    groups: Sequence[Group], seed: int, chance: Any, audit_seed: Purpose = Purpose.AUDIT
) -> tuple[int, int]:
    """Tokens saved and live groups lost where a problem's rollout probability is `chance(its seen groups)`."""
    keys: dict[str, int] = {}
    seen: dict[str, list[Group]] = {}
    saved = lost = 0
    for group in groups:
        step, problem, correct, lengths = group
        key = keys.setdefault(problem, len(keys))
        if derive_uniform(seed, audit_seed, step, key) < chance(seen.get(problem, [])):
            seen.setdefault(problem, []).append(group)
        else:
            saved += sum(lengths)
            lost += 0 < sum(correct) < len(correct)
    return saved, lost


@pytest.mark.parametrize("seed", [0, 1])
def test_history_saves_what_a_plain_count_says(tmp_path: Path, seed: int) -> None:
    groups = random_groups(seed=seed)

    def chance(seen: list[Group]) -> float:
        count = 0
        for _, _, correct, _ in reversed(seen):
            if sum(correct) != sum(seen[-1][2]) or 0 < sum(correct) < len(correct):
                break
            count += 1
        return max(0.05, 0.5**count)

    # Without adaptation the probability is 0.5 ** (groups in a row that were all right, or all wrong).
    found = replay_gate(log_of(tmp_path, groups), HistoryPredictor(step=0), Gate(seed, ExplorationRule(), max_share=1))
    saved, lost = count_skips(groups, seed, chance)
    assert saved > 1000
    assert found.tokens_saved == saved
    assert found.lost.share == pytest.approx(lost / found.lost.of)


@pytest.mark.parametrize("audit", [0, 0.2])
def test_posterior_saves_what_a_plain_count_says(tmp_path: Path, audit: float) -> None:
    groups = random_groups()

    def chance(seen: list[Group]) -> float:
        right = wrong = 0.0
        for _, _, correct, _ in seen:
            right = 0.5 * right + sum(correct)
            wrong = 0.5 * wrong + len(correct) - sum(correct)
        a, b = 0.1 + right, 0.1 + wrong
        flat = [np.prod([(part + i) / (a + b + i) for i in range(4)]) for part in (a, b)]
        return audit if seen and sum(flat) > 0.9 else 1.0

    predictor = PosteriorPredictor(prior=(0.1, 0.1), forgetting=0.5)
    gate = Gate(3, CalibratedRule(4, 0.9), audit=audit, max_share=1)
    found = replay_gate(log_of(tmp_path, groups), predictor, gate)
    saved, lost = count_skips(groups, 3, chance)
    assert saved > 1000
    assert found.tokens_saved == saved
    assert found.lost.share == pytest.approx(lost / found.lost.of)
    assert (found.audited > 0) == (audit > 0)


@pytest.mark.parametrize("predictor", [HistoryPredictor, lambda: PosteriorPredictor(prior=(0.1, 0.1))])
def test_what_is_withheld_changes_no_later_verdict(tmp_path: Path, predictor: Any) -> None:
    groups = random_groups()
    log = log_of(tmp_path, groups)

    def gate() -> Gate:
        rule = ExplorationRule() if predictor is HistoryPredictor else CalibratedRule(4)
        return Gate(0, rule)

    shown: list[tuple[int, int]] = []

    class Spy(type(predictor())):  # type: ignore[misc]
        def observe(self, step: int, observations: Sequence[Observation]) -> None:
            shown.extend((step, observation.evidence.problem.key) for observation in observations)
            super().observe(step, observations)

    spy = Spy() if predictor is HistoryPredictor else Spy(prior=(0.1, 0.1))
    first = replay_gate(log, spy, gate())
    visits = list(zip(log.steps.tolist(), log.problems.tolist(), strict=True))
    assert 0 < first.skipped == len(visits) - len(shown)
    assert set(shown) < set(visits)
    # Turn the outcome of every skipped group around: no verdict may change.
    skipped = np.array([visit not in set(shown) for visit in visits])
    turned = dataclasses.replace(
        log,
        correct=log.correct ^ np.repeat(skipped, log.sizes),
        zero_variance=log.zero_variance ^ skipped,
    )
    second = replay_gate(turned, predictor(), gate())
    assert (second.candidates, second.skipped, second.tokens_saved) == (
        first.candidates,
        first.skipped,
        first.tokens_saved,
    )
    assert second.precision != first.precision


def test_never_more_of_a_step_than_the_gate_may_skip(tmp_path: Path) -> None:
    groups = [(step, f"{i}", [1, 1], [10, 10]) for step in (1, 2) for i in range(8)]
    found = replay_gate(log_of(tmp_path, groups), LastTime(), Gate(0, PaperRule(), audit=0, max_share=0.75))
    assert found.skipped == 6


LENGTHS: list[Group] = [
    (1, "a", [1, 1, 1], [10, 20, 30]),  # median 20
    (1, "b", [0, 0, 0], [90, 90, 90]),  # nothing to go by
    (2, "a", [1, 1, 0], [25, 45, 100]),  # limits 30, 40, 60
    (2, "b", [1, 0, 0], [40, 90, 90]),  # median 40
    (3, "a", [1, 1, 1], [40, 41, 62]),  # still 20: what had a limit is not learnt from
    (3, "b", [0, 1, 1], [100, 90, 50]),  # limits 60, 80, 120 (but nothing is longer than 100)
]


def test_limits_by_hand(tmp_path: Path) -> None:
    found = replay_cutoffs(log_of(tmp_path, LENGTHS), exempt=0)
    own = {replay.factor: replay for replay in found if replay.basis == "problem"}
    assert list(own) == [1.5, 2, 3, None]
    # Limited groups: a in steps 2 and 3, b in step 3; 7 correct rollouts, 2 wrong ones.
    assert [own[factor].limited for factor in (1.5, 2.0, 3.0)] == [3, 3, 3]
    assert [(own[f].false_cut.share, own[f].false_cut.of) for f in (1.5, 2.0, 3.0)] == [
        (pytest.approx(5 / 7), 7),  # 45, 40, 41, 62, 90
        (pytest.approx(4 / 7), 7),  # 45, 41, 62, 90
        (pytest.approx(1 / 7), 7),  # 62
    ]
    assert [own[f].wrong_cut.share for f in (1.5, 2.0, 3.0)] == [1, 1, 0.5]
    assert [own[f].tokens_saved for f in (1.5, 2.0, 3.0)] == [
        15 + 70 + 10 + 11 + 32 + 40 + 30,
        5 + 60 + 1 + 22 + 20 + 10,
        40 + 2,
    ]
    # Fewer than 50 lengths: neither the quantile nor the median of all says anything.
    assert [replay.limited for replay in found if replay.basis == "all" or replay.factor is None] == [0] * 5


@pytest.mark.parametrize("exempt", [0.0, 0.3])
def test_limits_save_what_a_plain_count_says(tmp_path: Path, exempt: float) -> None:
    groups = random_groups()
    keys: dict[str, int] = {}
    seen: dict[str, list[int]] = {}
    saved = cut = right = 0
    for step, problem, correct, lengths in groups:
        key = keys.setdefault(problem, len(keys))
        good = [length for length, is_right in zip(lengths, correct, strict=True) if is_right]
        is_exempt = problem in seen and derive_uniform(5, Purpose.EXEMPT, step, key) < exempt
        if problem in seen:
            limit = min(int(np.ceil(2 * statistics.median(seen[problem]))), max(max(group[3]) for group in groups))
            right += len(good)
            cut += sum(length > limit for length in good)
            if not is_exempt:
                saved += sum(max(length - limit, 0) for length in lengths)
        if good and (problem not in seen or is_exempt):
            seen.setdefault(problem, []).extend(good)
    found = replay_cutoffs(log_of(tmp_path, groups), run_seed=5, exempt=exempt, factors=[2.0])[0]
    assert saved > 100
    assert (found.tokens_saved, found.false_cut.of) == (saved, right)
    assert found.false_cut.share == pytest.approx(cut / right)


def test_the_quantile_keeps_what_it_says(tmp_path: Path) -> None:
    groups = random_groups(problems=30, steps=200, per_step=15)
    found = [replay for replay in replay_cutoffs(log_of(tmp_path, groups), exempt=0.2) if replay.factor is None]
    assert [replay.basis for replay in found] == ["problem", "all"]
    for replay in found:
        # About 1200 lengths tell the quantile to about half of a percent.
        assert replay.false_cut.share == pytest.approx(0.02, abs=0.015)
        assert replay.tokens_saved > 0


def test_lengths_of_nothing_are_no_limit(tmp_path: Path) -> None:
    found = replay_cutoffs(log_of(tmp_path, [(step, "a", [1] * 30, [0] * 30) for step in range(5)]))
    assert [replay.limited for replay in found] == [0] * 8


def test_what_is_said_is_in_the_figures(tmp_path: Path) -> None:
    probe = probe_log(log_of(tmp_path, random_groups(steps=100)))
    gate = probe.gates["history"]
    assert probe.perfect_share == pytest.approx(probe.summary.whole.zero_variance_tokens / probe.summary.whole.tokens)
    assert f"A perfect gate would have saved {100 * probe.perfect_share:.0f} % of the tokens" in probe.advice
    assert f"the history gate {100 * gate.tokens_saved_share:.0f} %, at the cost of " in probe.advice
    for threshold in (0.9, 0.7):
        sure = probe.gates[f"posterior {threshold}"]
        assert (
            f"the posterior gate at {threshold} {100 * sure.tokens_saved_share:.0f} %, at the cost of " in probe.advice
        )
    assert probe.gates["posterior 0.7"].tokens_saved > probe.gates["posterior 0.9"].tokens_saved > 0


def test_without_a_second_visit_there_is_nothing_to_go_by(tmp_path: Path) -> None:
    once = [(step, f"{step}-{i}", [1, i % 2], [10, 10]) for step in range(3) for i in range(4)]
    probe = probe_log(log_of(tmp_path, once))
    assert "No problem comes back, so history and posterior have nothing to go by." in probe.advice
    assert "history gate" not in probe.advice
    assert all(gate.known == gate.candidates == 0 for gate in probe.gates.values())
    few = probe_log(log_of(tmp_path, [*once, (9, "0-0", [1, 1], [10, 10])]))
    assert "visited 1.1 times on average, so history and posterior have hardly anything to go by" in few.advice
