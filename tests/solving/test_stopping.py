"""The stopping rule: by hand, by simulation, and drawn in rounds as one by one."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from math import comb

import numpy as np
import pytest

from masa.awareness.beliefs import Beta
from masa.solving import AdaptiveConsistency, leads_by_beta, leads_by_dirichlet
from masa.solving.stopping import decided


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], 0.0),
        ([1], 3 / 4),  # 1 - (1/2)^2
        ([3], 15 / 16),
        ([4], 31 / 32),
        ([2, 2], 1 / 2),
        ([5, 1], 120 / 128),  # Beta(6, 2): P(Binomial(7, 1/2) <= 5)
        ([5, 1, 1, 1], 120 / 128),  # only the two leading answers count
    ],
)
def test_the_leading_answer_against_its_rival_by_hand(counts: list[int], expected: float) -> None:
    assert leads_by_beta(counts) == pytest.approx(expected)
    if len(counts) <= 2:
        assert leads_by_dirichlet(counts) == pytest.approx(expected)


def test_the_dirichlet_posterior_by_simulation() -> None:
    generator = np.random.default_rng(0)
    for counts in ([3, 2, 1], [4, 4, 2, 1], [10, 6, 6], [1, 1, 1, 1, 1]):
        draws = generator.dirichlet([count + 1 for count in counts], size=200_000)
        assert leads_by_dirichlet(counts) == pytest.approx(float((draws.argmax(axis=1) == 0).mean()), abs=0.005)
    assert leads_by_dirichlet([500, 480]) == pytest.approx(leads_by_beta([500, 480]), abs=1e-9)


def test_a_prediction_as_the_prior_by_simulation() -> None:
    generator = np.random.default_rng(0)
    prior, counts = Beta(5.0, 2.0), [3, 1]
    share = generator.beta(prior.a, prior.b, size=400_000)
    # Either of two answers is the right one; keep the draws under which just these votes fell.
    share = np.where(generator.random(share.size) < 0.5, share, 1 - share)
    kept = generator.binomial(sum(counts), share) == counts[0]
    assert leads_by_beta(counts, prior) == pytest.approx(float((share[kept] > 0.5).mean()), abs=0.005)
    # Without a difference between right and wrong it is the rule of the paper.
    assert leads_by_beta([3, 1], Beta(1.0, 1.0)) == leads_by_beta([3, 1])
    # To be never right is to agree on something wrong: as good as to be always right, for a vote.
    assert leads_by_beta([2], Beta(1.0, 9.0)) == pytest.approx(leads_by_beta([2], Beta(9.0, 1.0)))


def test_the_tail_of_a_beta_distribution() -> None:
    for a, b in itertools.product((1, 2, 5, 40), repeat=2):
        n = a + b - 1
        for level in (0.1, 0.5, 0.8):
            exact = sum(comb(n, j) * level**j * (1 - level) ** (n - j) for j in range(a))
            assert Beta(a, b).above(level) == pytest.approx(exact, rel=1e-9, abs=1e-14)
    assert (Beta(2, 3).above(0.0), Beta(2, 3).above(1.0)) == (1.0, 0.0)
    assert Beta(2, 3).log_moment(1, 0) == pytest.approx(np.log(2 / 5))


def test_unanimous_votes_settle_with_four_and_with_a_sure_prediction_with_two() -> None:
    rule = AdaptiveConsistency()
    assert [rule.settled([votes]) for votes in (1, 2, 3, 4)] == [False, False, False, True]
    assert rule.least_to_settle([], 16) == 4
    sure = Beta(9.0, 1.0)
    assert [rule.settled([votes], sure) for votes in (1, 2)] == [False, True]
    assert rule.least_to_settle([], 16, sure) == 2
    unsure = Beta(5.0, 5.0)
    assert rule.least_to_settle([], 16, unsure) > 4


def one_by_one(rule: AdaptiveConsistency, votes: list[int], prior: Beta) -> int:
    for drawn in range(len(votes) + 1):
        counts = [count for _, count in Counter(votes[:drawn]).most_common()]
        if counts and (rule.settled(counts, prior) or decided(counts, len(votes) - drawn)):
            return drawn
    return len(votes)


@pytest.mark.parametrize("posterior", ["beta", "dirichlet"])
def test_rounds_stop_where_single_samples_would(posterior: str) -> None:
    rule = AdaptiveConsistency(0.9, posterior)  # type: ignore[arg-type]
    draws = random.Random(0)
    priors = [Beta(1, 1), Beta(5, 2), Beta(9, 1)] if posterior == "beta" else [Beta(1, 1)]
    all_rounds = all_drawn = 0
    for case in range(60):
        prior = priors[case % len(priors)]
        votes = draws.choices(range(4), weights=(5, 3, 1, 1), k=12)
        drawn = 0
        while drawn < len(votes):
            counts = [count for _, count in Counter(votes[:drawn]).most_common()]
            if counts and (rule.settled(counts, prior) or decided(counts, len(votes) - drawn)):
                break
            drawn += rule.least_to_settle(counts, len(votes) - drawn, prior)
            all_rounds += 1
        assert drawn == one_by_one(rule, votes, prior)
        all_drawn += drawn
    assert all_rounds < all_drawn / 2


def test_a_settled_vote_is_seldom_overturned() -> None:
    """Of the votes that the rule stops, about the share it promises would have kept their leader."""
    rule = AdaptiveConsistency(0.95)
    draws = random.Random(1)
    kept = stopped = 0
    for _ in range(3000):
        share = draws.random()  # the rule's own prior: two answers, any share as likely as another
        votes: list[bool] = []
        while len(votes) < 40:
            votes.append(draws.random() < share)
            counts = sorted((votes.count(True), votes.count(False)), reverse=True)
            if rule.settled(counts):
                stopped += 1
                kept += (votes.count(True) > votes.count(False)) == (share > 0.5)
                break
    assert stopped > 2500
    assert kept / stopped > 0.95


def test_what_is_left_cannot_change_the_answer() -> None:
    assert decided([5, 2], 2)
    assert not decided([5, 2], 3)  # a tie would still be possible
    assert decided([], 0)
    assert not decided([], 1)


@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must lie strictly between"):
        AdaptiveConsistency(threshold)
