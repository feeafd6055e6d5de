import pytest

from masa.awareness import (
    awareness_summary,
    brier,
    classify,
    expected_calibration_error,
    pearson,
    reliability_table,
    spearman,
)
from masa.awareness.calibration import ranks
from masa.records import FinishReason, Outcome, Prediction


def test_pearson_by_hand():
    # x - 2 = (-1, 0, 1), y - 3 = (-2, 1, 1): 3 / sqrt(2 x 6)
    assert pearson([1, 2, 3], [1, 4, 4]) == pytest.approx(3 / 12**0.5)
    assert pearson([1, 2], [5, 3]) == -1.0
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert pearson([1], [1]) is None
    assert pearson([], []) is None
    assert pearson([1e-200, 2e-200, 3e-200], [1e200, 2e200, 3e200]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="pairs"):
        pearson([1], [1, 2])


def test_spearman_shares_ranks():
    assert ranks([10, 30, 20, 20]) == [1.0, 4.0, 2.5, 2.5]
    assert spearman([1, 2, 3, 4], [1, 8, 27, 64]) == pytest.approx(1.0)
    # ranks (1, 2, 3) against (1, 2.5, 2.5): 1.5 / sqrt(2 x 1.5)
    assert spearman([1, 2, 3], [1, 4, 4]) == pytest.approx(1.5 / 3**0.5)


def test_brier_is_over_rollouts():
    # One problem, p^ = 1/2, rollouts 1 0 0 0: the mean of (1/2 - c)^2 is 1/4; for p^ = 1/4 it is (9 + 3)/16/4 = 3/16.
    assert brier([0.5], [0.25]) == pytest.approx(0.25)
    assert brier([0.25], [0.25]) == pytest.approx(3 / 16)
    assert brier([1.0, 0.0], [1.0, 0.0]) == 0.0
    assert brier([], []) is None


def test_calibration_error_by_hand():
    # Bin [0, 0.5): two of mean 0.2, truth 0.5: gap 0.3. Bin [0.5, 1]: one of 1.0, truth 0.6: gap 0.4. Their mean: 1/3.
    predicted, true = [0.1, 0.3, 1.0], [0.4, 0.6, 0.6]
    table = reliability_table(predicted, true, bins=2)
    assert [(row.low, row.high, row.count) for row in table] == [(0.0, 0.5, 2), (0.5, 1.0, 1)]
    assert table[0].mean_predicted == pytest.approx(0.2)
    assert table[0].mean_true == pytest.approx(0.5)
    assert expected_calibration_error(predicted, true, bins=2) == pytest.approx(1 / 3)
    assert expected_calibration_error([], []) is None


def test_nine_bins_part_the_eighths():
    grid = [i / 8 for i in range(9)]
    assert len(reliability_table(grid, grid, bins=9)) == 9


def test_classification():
    result = classify([True, True, False, False, True], [True, False, True, False, True])
    assert (result.precision, result.recall, result.base_rate) == (2 / 3, 2 / 3, 3 / 5)
    assert result.f1 == pytest.approx(2 / 3)
    nothing = classify([False], [False])
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.base_rate) == (None, None, None, 0.0)


def outcome(n_correct, length, n=4):
    return Outcome(("t",) * n, (length,) * n, (True,) * n_correct + (False,) * (n - n_correct))


def test_summary_by_hand():
    pairs = [
        ([Prediction(0.0, 10, ()), Prediction(0.25, 30, ())], outcome(1, 40)),  # means 1/8 and 20; p = 1/4
        ([Prediction(0.5, None, ()), Prediction(None, None, None)], outcome(2, 50)),
        (Prediction(1.0, 100, ()), outcome(4, 80)),
        (Prediction(0.0, 500, ()), outcome(0, 80)),  # no correct length
        ([], outcome(1, 10)),
    ]
    summary = awareness_summary(pairs)
    assert (summary.problems, summary.predictions, summary.valid_share) == (5, 6, pytest.approx(4 / 6))
    assert (summary.pass_rate_problems, summary.length_problems) == (4, 2)
    assert summary.pass_rate_spearman == pytest.approx(1.0)  # (1/8, 1/2, 1, 0) against (1/4, 1/2, 1, 0)
    assert summary.length_spearman == pytest.approx(1.0)
    # Squared errors 1/16, 0, 0, 0, 0 and p(1-p) = 3/16, 3/16, 1/4, 0, 0, over five predictions.
    assert summary.brier == pytest.approx((1 / 16 + 3 / 16 + 3 / 16 + 1 / 4) / 5)
    # Bins: {0, 0} against {1/4, 0}: 1/8 for two; the rest agree.
    assert summary.ece == pytest.approx(2 * (1 / 8) / 5)
    assert summary.length_ratio == 0.75  # median of 1/4, 3/4, 5/4
    assert summary.pass_rate_spearman_interval is None  # |r| = 1
    assert summary.metrics()["awareness/length_ratio"] == 0.75


def test_undefined_is_none_and_left_out_of_metrics():
    truncated = Outcome(("t",), (9,), (True,), (FinishReason.LENGTH,))
    summary = awareness_summary([(Prediction(None, 5, None), truncated)])
    assert summary.pass_rate_spearman is None
    assert summary.brier is None
    assert summary.length_ratio is None
    assert set(summary.metrics("x/")) == {
        "x/problems", "x/predictions", "x/valid_share", "x/pass_rate_problems", "x/length_problems",
    }  # fmt: skip
    assert awareness_summary([]).valid_share is None
