"""The knapsack against brute force, and the factors that make unequal groups alike."""

import itertools
import math
import random
import time

import pytest

from masa.awareness import Beta, allocate, group_advantages, group_scale, row_weight

EVEN, SURE = Beta(50, 50), Beta(1, 200)


def value(belief, size):
    return 1 - belief.zero_variance(size) if size else 0.0


def worth(beliefs, sizes):
    return math.fsum(value(belief, size) for belief, size in zip(beliefs, sizes, strict=True))


def spent(costs, sizes):
    return math.fsum(cost * size for cost, size in zip(costs, sizes, strict=True))


def brute_force(beliefs, costs, budget, least, most):
    choices = itertools.product([0, *range(least, most + 1)], repeat=len(beliefs))
    return max(worth(beliefs, sizes) for sizes in choices if spent(costs, sizes) <= budget)


def random_case(seed):
    rng = random.Random(seed)
    n = rng.randint(1, 4)
    beliefs = [Beta(rng.uniform(0.05, 8), rng.uniform(0.05, 8)) for _ in range(n)]
    costs = [float(rng.randint(1, 9)) for _ in range(n)]
    least = rng.randint(2, 4)
    return beliefs, costs, least, least + rng.randint(0, 4), rng


@pytest.mark.parametrize("seed", range(60))
def test_against_brute_force(seed):
    """Best for the tokens it spends, and less than one item from the best for the whole budget."""
    beliefs, costs, least, most, rng = random_case(seed)
    cheapest = min(costs) * least
    budget = rng.uniform(cheapest, most * sum(costs) * 1.1)
    sizes = allocate(beliefs, costs, budget=budget, least=least, most=most)
    assert all(size == 0 or least <= size <= most for size in sizes)
    assert spent(costs, sizes) <= budget
    item = max(value(belief, least) for belief in beliefs)
    assert worth(beliefs, sizes) > brute_force(beliefs, costs, budget, least, most) - item
    # Every item in the order of its worth per token; what the first k of them cost buys nothing better than them.
    items = []
    for belief, cost in zip(beliefs, costs, strict=True):
        items.append((value(belief, least) / least / cost, least * cost))
        steps = [value(belief, size + 1) - value(belief, size) for size in range(least, most)]
        assert all(
            step <= before + 1e-12 for before, step in itertools.pairwise([value(belief, least) / least, *steps])
        )
        items += [(step / cost, cost) for step in steps]
    items.sort(key=lambda item: -round(item[0], 12))  # stable: from 0 to `least` before what follows
    for k in range(1, len(items) + 1):
        budget = math.fsum(cost for _, cost in items[:k])
        best = brute_force(beliefs, costs, budget, least, most)
        assert worth(beliefs, allocate(beliefs, costs, budget=budget, least=least, most=most)) == pytest.approx(best)


def test_rollouts_go_where_they_teach():
    # A coin that falls either way needs few rollouts to show both; a rare success needs many.
    assert allocate([EVEN, SURE], [100.0, 100.0], budget=800, least=4, most=8) == [8, 0]
    assert allocate([EVEN, Beta(10, 90)], [100.0, 100.0], budget=1200, least=4, most=8) == [5, 7]
    assert allocate([EVEN, EVEN], [100.0, 300.0], budget=1600, least=4, most=8) == [4, 4]
    assert allocate([EVEN, EVEN], [100.0, 300.0], budget=1500, least=4, most=8) == [8, 0]


def test_equal_problems_share_equally_and_ties_go_to_the_lower_index():
    assert allocate([EVEN] * 4, [10.0] * 4, budget=320, least=2, most=16) == [8] * 4
    assert allocate([EVEN] * 4, [10.0] * 4, budget=90, least=2, most=16) == [3, 2, 2, 2]
    assert allocate([EVEN] * 4, [10.0] * 4, budget=40, least=2, most=16) == [2, 2, 0, 0]


def test_missing_beliefs_and_costs():
    assert allocate([None, Beta(1, 1)], [100.0, 100.0], budget=1000, least=2, most=8) == [5, 5]
    assert allocate([EVEN] * 3, [50.0, None, 150.0], budget=1200, least=4, most=4) == [4, 4, 4]
    assert allocate([EVEN] * 3, [50.0, None, 150.0], budget=1199, least=4, most=4) == [4, 4, 0]
    assert allocate([], [], budget=10, least=2, most=4) == []


def test_the_budget_is_broken_for_one_group_alone():
    assert allocate([SURE, EVEN, EVEN], [100.0] * 3, budget=199, least=2, most=8) == [0, 2, 0]
    assert allocate([SURE, EVEN], [1.0, 100.0], budget=5, least=2, most=2) == [2, 0]  # pays for something: no exception
    assert allocate([EVEN], [10.0], budget=0, least=2, most=2) == [2]


def test_a_thousand_problems_are_no_matter():
    rng = random.Random(0)
    beliefs = [Beta(rng.uniform(0.1, 5), rng.uniform(0.1, 5)) for _ in range(1000)]
    costs = [rng.uniform(50, 5000) for _ in beliefs]
    budget = 8 * math.fsum(costs)
    start = time.perf_counter()
    sizes = allocate(beliefs, costs, budget=budget, least=2, most=32)
    assert time.perf_counter() - start < 2  # takes some 0.03 s
    assert 0.98 * budget < spent(costs, sizes) <= budget
    uniform = worth(beliefs, [8] * 1000)
    assert worth(beliefs, sizes) > 1.02 * uniform


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([EVEN], [1.0, 2.0], 9, 2, 4), "1 beliefs for 2 costs"),
        (([EVEN], [1.0], 9, 1, 4), "2 <= least <= most"),
        (([EVEN], [1.0], 9, 5, 4), "2 <= least <= most"),
        (([EVEN], [1.0], -1, 2, 4), "budget"),
        (([EVEN], [1.0], math.nan, 2, 4), "budget"),
        (([EVEN], [0.0], 9, 2, 4), "positive number of tokens"),
        (([EVEN], [math.inf], 9, 2, 4), "positive number of tokens"),
        (([EVEN], [None], 9, 2, 4), "no predicted length"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    beliefs, costs, budget, least, most = arguments
    with pytest.raises(ValueError, match=message):
        allocate(beliefs, costs, budget=budget, least=least, most=most)


def test_equal_sizes_change_nothing():
    assert group_scale(8, 8) == 1.0
    assert row_weight(8, 8.0) == 1.0
    assert [group_scale(n, n) * row_weight(n, n) for n in range(2, 40)] == [1.0] * 38
    with pytest.raises(ValueError, match="at least 2"):
        group_scale(1, 8)
    with pytest.raises(ValueError, match="positive"):
        row_weight(0, 8.0)


@pytest.mark.parametrize("size", [2, 4, 16])
def test_scaled_groups_of_any_size_push_alike(size):
    """E[sum of (r - mean) x r] over a group's rows, weighed, is the gradient of p up to a constant: G-free once scaled.

    Exact, over all outcomes of the group at p = 0.3: rows of the nominal size 8 push with p (1 - p) 7/8 each.
    """
    p, mean_size = 0.3, 6.0
    push = 0.0
    for outcome in itertools.product([0.0, 1.0], repeat=size):
        chance = p ** sum(outcome) * (1 - p) ** (size - sum(outcome))
        advantages = group_advantages(outcome, scale="none")
        push += chance * math.fsum(a * r for a, r in zip(advantages, outcome, strict=True))
    scaled = push * group_scale(size, 8) * row_weight(size, mean_size)
    assert scaled == pytest.approx(p * (1 - p) * 7 / 8 * mean_size)
