"""The ceiling of a gate: simulated problems whose pass rates are known."""

from __future__ import annotations

import numpy as np
import pytest

from masa.evaluation.known_rates import knowing_gate


def truth(rates: np.ndarray, size: int, share: float) -> tuple[float, float, float]:
    flat = np.sort(rates**size + (1 - rates) ** size)[::-1]
    skipped = flat[: round(share * len(flat))]
    return skipped.mean(), skipped.sum() / flat.sum(), flat.mean()


@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize("shape", [(1.0, 1.0), (0.3, 0.3), (0.1, 0.2), (4.0, 4.0)])
def test_the_ceiling_is_found_from_groups_of_eight(shape: tuple[float, float], share: float) -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(*shape, 4000)
    right = rng.binomial(8, rates)
    found = knowing_gate(right.tolist(), [8] * 4000, 8, share)
    precision, recall, base = truth(rates, 8, share)
    assert found.base_rate == pytest.approx(base, abs=0.02)
    assert found.precision == pytest.approx(precision, abs=0.05)
    assert found.recall == pytest.approx(recall, abs=0.08)


def test_knowing_is_not_seeing() -> None:
    """Taking the observed rate for the true one would call every flat group foreseen."""
    rng = np.random.default_rng(1)
    right = rng.binomial(8, 0.3, 2000)
    found = knowing_gate(right.tolist(), [8] * 2000, 8, 0.1)
    assert found.base_rate == pytest.approx(0.3**8 + 0.7**8, abs=0.02)
    assert found.precision == pytest.approx(found.base_rate, abs=0.05)


def test_groups_that_are_surely_flat() -> None:
    found = knowing_gate([0] * 50 + [8] * 50, [8] * 100, 8, 0.5)
    assert found.base_rate == pytest.approx(1.0, abs=0.01)
    assert found.precision == pytest.approx(1.0, abs=0.01)
    assert found.recall == pytest.approx(0.5, abs=0.01)


def test_nothing_skipped_has_no_precision() -> None:
    found = knowing_gate([0, 8, 4], [8] * 3, 8, 0.0)
    assert (found.precision, found.recall) == (None, 0.0)


def test_many_rollouts_do_not_vanish() -> None:
    found = knowing_gate([1000, 0, 2000], [2000] * 3, 2000, 2 / 3)
    assert found.base_rate == pytest.approx(2 / 3, abs=0.01)
    assert found.precision == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("right", "rolled"), [([], []), ([3], [2]), ([1], []), ([-1], [4]), ([0], [0])])
def test_counts_that_make_no_sense_are_refused(right: list[int], rolled: list[int]) -> None:
    with pytest.raises(ValueError, match="pass rates need problems"):
        knowing_gate(right, rolled, 8, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        knowing_gate([1], [2], 8, share)
