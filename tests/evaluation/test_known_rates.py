"""The ceiling of a gate: simulated problems whose pass rates are known."""

from __future__ import annotations

import numpy as np
import pytest

from masa.evaluation.known_rates import knowing_gate


def truth(rates: np.ndarray, size: int) -> tuple[float, float, float]:
    flat = rates**size + (1 - rates) ** size
    skipped = flat > 0.5
    return flat[skipped].mean(), flat[skipped].sum() / flat.sum(), flat.mean()


@pytest.mark.parametrize("shape", [(1.0, 1.0), (0.3, 0.3), (0.1, 0.2), (4.0, 4.0)])
def test_the_ceiling_is_found_from_groups_of_eight(shape: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    rates = rng.beta(*shape, 4000)
    right = rng.binomial(8, rates)
    found = knowing_gate(right.tolist(), [8] * 4000, 8)
    precision, recall, base = truth(rates, 8)
    assert found.base_rate == pytest.approx(base, abs=0.02)
    assert found.precision == pytest.approx(precision, abs=0.05)
    assert found.recall == pytest.approx(recall, abs=0.08)


def test_knowing_is_not_seeing() -> None:
    """Taking the observed rate for the true one would call every flat group foreseen."""
    rng = np.random.default_rng(1)
    right = rng.binomial(8, 0.3, 2000)
    found = knowing_gate(right.tolist(), [8] * 2000, 8)
    assert found.base_rate == pytest.approx(0.3**8 + 0.7**8, abs=0.02)
    assert found.recall == pytest.approx(0.0, abs=0.05)


def test_groups_that_are_surely_flat() -> None:
    found = knowing_gate([0] * 50 + [8] * 50, [8] * 100, 8)
    assert found.base_rate == pytest.approx(1.0, abs=0.01)
    assert found.precision == pytest.approx(1.0, abs=0.01)
    assert found.recall == pytest.approx(1.0, abs=0.01)


def test_without_flat_groups_nothing_is_skipped() -> None:
    assert knowing_gate([4] * 100, [8] * 100, 8).recall == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(("right", "rolled"), [([], []), ([3], [2]), ([1], []), ([-1], [4]), ([0], [0])])
def test_counts_that_make_no_sense_are_refused(right: list[int], rolled: list[int]) -> None:
    with pytest.raises(ValueError, match="pass rates need problems"):
        knowing_gate(right, rolled, 8)
