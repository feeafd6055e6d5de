import json
import math

import numpy as np
import pytest
from predictor_worlds import logistic, observation, problem, said

from masa.awareness import Evidence, HiddenStatePredictor, StackedPredictor

WIDTH = 8


def estimate(predictor, key, hidden, predictions=()):
    return predictor.estimate(Evidence(problem(key), predictions, hidden))


def run_world(predictor, *, steps=40, a_step=16, keys=160, speaks=False, seed=0):
    """Problems that come back, of whose logit the hidden state shows a part; gives the log loss of zero variance.

    The rest is the problem's own, so that only its history or the policy's word can tell it.
    """
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=WIDTH) / math.sqrt(WIDTH)
    hidden = rng.normal(size=(keys, WIDTH)).astype(np.float32)
    rates = logistic(2 * hidden @ directions + 3 * rng.normal(size=keys))
    losses = []
    for step in range(steps):
        chosen = rng.permutation(keys)[:a_step]
        rights = rng.binomial(8, rates[chosen])
        words = [said(*(float(round(8 * rates[k]) / 8),) * 4) if speaks else () for k in chosen]
        for k, right, word in zip(chosen, rights, words, strict=True):
            belief = estimate(predictor, int(k), hidden[k], word).belief
            if step >= 25 and belief is not None:
                flat = belief.zero_variance(8)
                losses.append(-math.log(flat if right in (0, 8) else 1 - flat))
        predictor.observe(
            step,
            [
                observation(int(k), int(right), hidden=hidden[k], predictions=word)
                for k, right, word in zip(chosen, rights, words, strict=True)
            ],
        )
    return float(np.mean(losses))


def test_history_and_word_sharpen_what_the_hidden_state_says():
    hidden = run_world(HiddenStatePredictor())
    with_history = run_world(StackedPredictor())
    with_both = run_world(StackedPredictor(), speaks=True)
    assert with_history < hidden - 0.05
    assert with_both < with_history - 0.05


def test_a_problem_without_history_or_word_is_told_by_its_hidden_state():
    stacked = StackedPredictor()
    run_world(stacked)
    bright = [estimate(stacked, 10**6, hidden).pass_rate for hidden in np.eye(WIDTH, dtype=np.float32) * 3]
    assert max(bright) - min(bright) > 0.2


def test_the_word_of_the_policy_gives_length_and_notions():
    stacked = StackedPredictor()
    run_world(stacked, speaks=True)
    hidden = np.ones(WIDTH, np.float32)
    assert estimate(stacked, 3, hidden, said(0.5, 0.5, length=123)).length == 123
    assert estimate(stacked, 3, hidden).length == pytest.approx(50)  # every correct rollout of that world
    assert estimate(stacked, 3, None).abstains


def test_state_comes_back_exactly():
    first, second = StackedPredictor(), StackedPredictor()
    run_world(first, steps=30, speaks=True)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    hidden = np.linspace(-1, 1, WIDTH).astype(np.float32)
    for predictor in (first, second):
        predictor.observe(31, [observation(5, 7, hidden=hidden)])
    assert [estimate(first, k, hidden) for k in range(9)] == [estimate(second, k, hidden) for k in range(9)]
    assert first.metrics() == second.metrics()
