import pytest

from masa.awareness import Evidence, NoPredictor, SelfPredictor, make_predictor
from masa.records import Prediction, Problem

PROBLEM = Problem(key=0, text="q", answer="1")


def estimate(*predictions):
    return SelfPredictor().estimate(Evidence(PROBLEM, predictions))


def test_mean_and_population_deviation():
    # rates 1, 1, 1, 7/8: mean 31/32; deviation sqrt(3 (1/32)^2 + (3/32)^2) / 2 = sqrt(12) / 64 = 0.0541
    rates = [1.0, 1.0, 1.0, 0.875]
    result = estimate(*(Prediction(r, 100 + 10 * i, ("a",)) for i, r in enumerate(rates)))
    assert result.pass_rate == 31 / 32
    assert result.deviation == pytest.approx(12**0.5 / 64)
    assert result.length == 115.0
    assert (result.valid, result.abstains) == (4, False)


def test_the_papers_examples_of_eight():
    # One 7/8 among ones deviates by sqrt(7)/64 = 0.041, three by sqrt(15)/64 = 0.061.
    assert estimate(*[Prediction(1.0)] * 7, Prediction(0.875)).deviation == pytest.approx(0.0413, abs=1e-4)
    assert estimate(*[Prediction(1.0)] * 5, *[Prediction(0.875)] * 3).deviation == pytest.approx(0.0605, abs=1e-4)


def test_abstains_with_fewer_than_half_valid():
    valid, invalid = Prediction(0.0, None, ()), Prediction(None, 50, ())
    assert not estimate(valid, valid, invalid, invalid).abstains
    result = estimate(valid, invalid, invalid)
    assert result.abstains
    assert (result.pass_rate, result.deviation, result.valid) == (None, None, 1)
    assert result.length == 50.0  # components are counted apart
    assert estimate(valid, valid, invalid).length is None


def test_without_predictions_it_abstains():
    result = estimate()
    assert result.abstains
    assert result.length is None


def test_notions_by_frequency():
    result = estimate(Prediction(None, None, ("b", "a", "b")), Prediction(None, None, ("a",)), Prediction())
    assert result.notions == ("a", "b")


def test_none_abstains():
    predictor = make_predictor("none")
    assert isinstance(predictor, NoPredictor)
    assert predictor.estimate(Evidence(PROBLEM, [Prediction(0.0, 1, ())])).abstains
    predictor.load_state_dict(predictor.state_dict())
    assert predictor.metrics() == {}


def test_unknown_predictor_names_the_nearest():
    with pytest.raises(ValueError, match="unknown predictor 'slef': did you mean 'self'"):
        make_predictor("slef")
