"""A model that knows itself, one that says the same of everything, one that is wrong: figures by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from policies import WrittenEngine, data_set, decode_ids, knows_itself, right_in_k

from masa.evaluation.answers import collect
from masa.evaluation.foresight import fit_line
from masa.evaluation.model_probe import ModelProbe, probe_model
from masa.runs.answers import AnswerFolder

COPIES = 40
MAX = 200


def probed(
    folder: Path,
    foretell: Callable[[int], tuple[int, int]] = knows_itself,
    solve: Callable[[int, int], str] = right_in_k,
    copies: int = COPIES,
) -> ModelProbe:
    answers = collect(WrittenEngine(solve, foretell), data_set(copies), AnswerFolder(folder, {}), n=4, m=2)

    def correct_at(problem: int, sample: int, limit: int) -> bool:
        return decode_ids(answers[problem].solutions[sample].token_ids[:limit])[-1:] == "y"

    return probe_model(answers, min_length=1, max_tokens=MAX, correct_at=correct_at)


def test_a_model_that_knows_itself(tmp_path: Path) -> None:
    probe = probed(tmp_path)
    seen, worth = probe.foresight, probe.savings
    assert (probe.problems, probe.solutions, probe.predictions) == (5 * COPIES, 4, 2)
    assert seen.valid_share == 1.0
    assert (seen.pass_rate, seen.foretold_pass_rate) == (pytest.approx(0.5), pytest.approx(0.5))
    assert seen.pass_rate_spearman.value == pytest.approx(1.0)
    assert seen.length_pearson.value == pytest.approx(1.0)
    assert seen.length_pearson.problems == 4 * COPIES  # problems never solved have no correct length
    assert seen.pass_rate_line is not None
    assert (seen.pass_rate_line.slope, seen.pass_rate_line.intercept) == (pytest.approx(1), pytest.approx(0))
    assert seen.length_line is not None
    assert (seen.length_line.slope, seen.length_line.least, seen.length_line.most) == (pytest.approx(1), 3, 6)
    # p (1 - p) = 0, 3/16, 4/16, 3/16, 0
    assert seen.brier == pytest.approx(0.125)
    assert (seen.brier_perfect, seen.brier_constant) == (pytest.approx(0.125), pytest.approx(0.25))
    assert seen.ece == pytest.approx(0.0)
    assert [(row.mean_predicted, row.mean_true) for row in seen.reliability] == [
        (x, x) for x in (0, 0.25, 0.5, 0.75, 1)
    ]
    # Of 80 tokens of five problems 8 are in those never solved and 24 in those always solved.
    assert worth.solution_tokens == 80 * COPIES
    assert worth.perfect_share == pytest.approx(0.4)
    for name in ("paper", "calibrated 0.7"):
        gate = worth.gates[name]
        assert (gate.precision.share, gate.recall.share, gate.lost.share, gate.f1) == (1.0, 1.0, 0.0, 1.0)
        assert (gate.skipped.share, gate.base_rate.share) == (pytest.approx(0.4), pytest.approx(0.4))
        assert gate.saved_share == pytest.approx(0.4)
        assert gate.net_share == pytest.approx(0.4 - worth.meta_tokens / worth.solution_tokens)
    # Every solution is as long as foretold, so no limit of either rule ends one.
    for cutoff in worth.cutoffs.values():
        assert (cutoff.limited.share, cutoff.false_cut.share, cutoff.saved) == (1.0, 0.0, 0)
    assert worth.together["paper"].saved == worth.gates["paper"].saved
    assert "rank correlation 1.00" in probe.advice
    assert "surely do better than skipping at random the paper's gate saves most: 40 %, " in probe.advice


def test_a_model_that_says_the_same_of_everything(tmp_path: Path) -> None:
    probe = probed(tmp_path, lambda k: (4, 50))
    seen, worth = probe.foresight, probe.savings
    assert seen.pass_rate_spearman.value is None
    assert seen.pass_rate_line is None
    assert seen.length_line is None
    assert seen.brier == pytest.approx(seen.brier_constant)  # the mean is 1/2 too
    assert seen.ece == pytest.approx(0.0)
    for gate in worth.gates.values():
        assert (gate.skipped.share, gate.saved, gate.precision.share, gate.recall.share) == (0.0, 0, None, 0.0)
        assert gate.net_share == pytest.approx(-worth.meta_tokens / worth.solution_tokens)
    assert "foretells the same pass rate of every problem" in probe.advice
    assert "No gate tried here is sure enough" in probe.advice
    assert "do not pay for the predictions" in probe.advice


def test_a_model_that_is_sure_and_wrong(tmp_path: Path) -> None:
    probe = probed(tmp_path, lambda k: (0, 5))  # it solves nothing, it says
    gate = probe.savings.gates["paper"]
    assert (gate.skipped.share, gate.lost.share) == (1.0, 1.0)
    assert gate.precision.share == gate.base_rate.share == pytest.approx(0.4)
    # Calibrated, the word is worth nothing, and the rule knows it.
    assert probe.savings.gates["calibrated 0.7"].skipped.share == 0.0
    assert probe.foresight.brier == pytest.approx(0.5)  # the mean of c^2
    assert "worse than a constant" in probe.advice
    assert "No gate surely does better than skipping at random; the paper's gate saves most: 100 %" in probe.advice


def test_predictions_that_cannot_be_read(tmp_path: Path) -> None:
    probe = probed(tmp_path, lambda k: (99, 0))
    assert (probe.foresight.valid_share, probe.foresight.brier, probe.foresight.ece) == (0.0, None, None)
    assert list(probe.savings.gates) == list(probe.savings.cutoffs) == ["paper"]
    assert probe.savings.cutoffs["paper"].limited.share == 0.0
    assert probe.advice.startswith("Not one prediction could be read")


def test_too_few_problems_are_not_calibrated(tmp_path: Path) -> None:
    assert list(probed(tmp_path, copies=2).savings.gates) == ["paper"]


@pytest.mark.parametrize(("early", "false_cut"), [(True, 0.0), (False, 1.0)])
def test_an_answer_that_stands_before_the_limit_is_not_lost(tmp_path: Path, early: bool, false_cut: float) -> None:
    """Solutions take 20 tokens and 4 are foretold: the limit of 8 ends all; right is what ends in y."""
    text = "y" * 20 if early else "yn" * 10
    probe = probed(tmp_path, lambda k: (4, 4), lambda k, sample: text, copies=2)
    cutoff = probe.savings.cutoffs["paper"]
    assert cutoff.limited.share == 1.0
    assert cutoff.false_cut.share == false_cut
    assert cutoff.wrong_cut.share is None  # every full solution is right
    assert cutoff.saved_share == pytest.approx(12 / 20)


def test_the_quantile_learns_that_it_foretells_too_short(tmp_path: Path) -> None:
    probe = probed(tmp_path, lambda k: (2 * k, 4), lambda k, sample: ("y" if sample < k else "n") * 20)
    assert probe.savings.cutoffs["paper"].limited.share == 1.0  # at 8
    calibrated = probe.savings.cutoffs["calibrated"]
    assert (calibrated.false_cut.share, calibrated.saved) == (0.0, 0)  # at 20


def test_a_line_by_hand() -> None:
    line = fit_line([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (None, 9.0), (3.0, None)])
    assert line is not None
    assert (line.intercept, line.slope, line.least, line.most) == (pytest.approx(1), pytest.approx(2), 0.0, 2.0)
    assert fit_line([(1.0, 0.0), (1.0, 1.0)]) is None
    assert fit_line([]) is None
