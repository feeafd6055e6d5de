"""The ledger's sums."""

from __future__ import annotations

import json

import pytest

from masa.runs import Ledger


def filled() -> Ledger:
    ledger = Ledger()
    ledger.add(solution_tokens=1000, meta_tokens=200, steps=1)
    ledger.add(audit_tokens=50, saved_gate_tokens=400.5, saved_cutoff_tokens=30, cut_rollouts=2)
    ledger.add_seconds(rollout=1.5, update=0.5)
    ledger.add_seconds(rollout=1.0)
    return ledger


def test_net_saving_is_saved_less_meta_cost() -> None:
    ledger = filled()
    assert ledger.net_saved_tokens == pytest.approx(400.5 + 30 - 200)
    assert ledger.generated_tokens == 1250
    ledger.add(evaluation_tokens=10_000)
    assert ledger.generated_tokens == 1250  # evaluation is no cost of training


def test_state_survives_json() -> None:
    ledger, other = filled(), Ledger()
    other.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    assert other == ledger
    other.add_seconds(rollout=1)
    assert ledger.seconds["rollout"] == 2.5


def test_net_saving_is_what_was_saved_less_the_predictions() -> None:
    assert filled().net_saved_tokens == pytest.approx(230.5)


def test_wrong_amounts_are_refused() -> None:
    with pytest.raises(TypeError, match="tokens_of_joy"):
        Ledger().add(tokens_of_joy=1)
    with pytest.raises(ValueError, match="meta_tokens"):
        Ledger().add(meta_tokens=-1)
    Ledger().add(saved_gate_tokens=-3.0)  # an estimate may be corrected
    with pytest.raises(ValueError, match="differ"):
        Ledger().load_state_dict({"solution_tokens": 1})
