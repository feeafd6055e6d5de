"""How many samples a question is worth."""

from __future__ import annotations

import numpy as np
import pytest

from masa.awareness.beliefs import Beta
from masa.solving import likely_right, plan_samples, vote_values


def near(rate: float) -> Beta:
    return Beta(1e4 * rate, 1e4 * (1 - rate))


def test_the_vote_by_hand() -> None:
    # One rival: a majority of 3 is right with p^3 + 3 p^2 (1 - p); a second sample changes nothing.
    values = vote_values(near(0.8), 3, rival=1.0)
    assert values[0] == 0
    assert values[1:] == pytest.approx([0.8, 0.8, 0.896], abs=1e-3)
    # Scattered wrong answers have one vote each: two right ones win, one right one ties.
    values = vote_values(near(0.5), 3, rival=0.0)
    assert values[1:] == pytest.approx([0.5, 1 / 4 + 1 / 4, 1 / 2 + 3 / 16], abs=1e-3)


@pytest.mark.parametrize("rival", [1.0, 0.5])
def test_the_vote_by_simulation(rival: float) -> None:
    generator = np.random.default_rng(0)
    belief, n, draws = Beta(3.0, 4.0), 7, 100_000
    right = generator.binomial(n, generator.beta(belief.a, belief.b, size=draws))
    rivals = np.maximum(generator.binomial(n - right, rival), (right < n).astype(int))
    won = (right > rivals) + 0.5 * ((right == rivals) & (right > 0))
    assert vote_values(belief, n, rival)[n] == pytest.approx(float(won.mean()), abs=0.005)


def test_the_hopeless_and_the_sure_get_few_samples_and_the_unsure_many() -> None:
    values = [vote_values(near(rate), 16) for rate in (0.001, 0.5, 0.7, 0.999)]
    hopeless, unsure, likely, sure = plan_samples(values, [1.0] * 4)
    assert (hopeless, sure) == (1, 1)
    assert unsure > likely > 3


def test_a_budget_goes_to_the_worthiest_and_is_kept() -> None:
    values = [vote_values(near(rate), 16) for rate in (0.001, 0.6, 0.6, 0.999)]
    costs = [10.0, 10.0, 40.0, 10.0]
    for budget in (70, 120, 200, 400, 5000):
        sizes = plan_samples(values, costs, budget=budget)
        assert sum(size * cost for size, cost in zip(sizes, costs, strict=True)) <= budget
        assert sizes[0] == sizes[3] == 1
        assert sizes[1] >= sizes[2]
    assert plan_samples(values, costs, budget=1) == [1, 1, 1, 1]
    assert plan_samples([], []) == []


def test_a_sample_must_cost_something() -> None:
    with pytest.raises(ValueError, match="positive number of tokens, got 0"):
        plan_samples([vote_values(near(0.5), 2)], [0.0])


def test_the_chance_to_be_right_by_hand() -> None:
    # Four agree: right E[p^4] = 1/5; else one wrong answer, E[(1-p)^4] = 1/5 times 3! / 4! for their agreement.
    assert likely_right([4], Beta(1.0, 1.0), rival=0.5) == pytest.approx(4 / 5)
    # One vote: right with the foretold pass rate, however wrong answers scatter.
    for rival in (0.0, 0.5, 1.0):
        assert likely_right([1], Beta(7.0, 3.0), rival) == pytest.approx(0.7)
    assert likely_right([], Beta(1.0, 1.0)) == 0.0


def test_the_chance_to_be_right_by_simulation() -> None:
    generator = np.random.default_rng(0)
    belief, cases = Beta(2.0, 3.0), 40_000
    said, true = [], []
    for rate in generator.beta(belief.a, belief.b, size=cases):
        votes: dict[int, int] = {}  # 0 is the right answer; two wrong ones agree with probability 1/2
        wrong: list[int] = []
        for _ in range(5):
            answer = 0
            if generator.random() >= rate:
                seat = int(generator.integers(len(wrong) + 1))
                answer = wrong[seat] if seat < len(wrong) else len(votes) + 1
                wrong.append(answer)
            votes[answer] = votes.get(answer, 0) + 1
        leader = max(votes, key=lambda answer: votes[answer])
        counts = sorted(votes.values(), reverse=True)
        said.append(likely_right(counts, belief))
        true.append(leader == 0)
    for low in (0.0, 0.3, 0.6, 0.9):
        chosen = [i for i, chance in enumerate(said) if low <= chance < low + 0.3]
        if len(chosen) > 500:
            mean_said, mean_true = (float(np.mean([values[i] for i in chosen])) for values in (said, true))
            assert mean_said == pytest.approx(mean_true, abs=0.03)
