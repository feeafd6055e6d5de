"""Limits of a run."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from masa.cli.job import read_job
from masa.cli.train import _Budget, _evaluate_first
from masa.errors import Interrupted
from masa.processes import Team
from masa.runs import Ledger
from masa.training.interruption import Interruption


@pytest.mark.parametrize(("seconds", "stops"), [({"update": 50.0, "evaluation": 9.0}, False), ({"update": 60.0}, True)])
def test_minutes_are_those_of_the_whole_run_resumed_or_not(seconds: dict[str, float], stops: bool) -> None:
    trainer: Any = SimpleNamespace(ledger=Ledger(seconds=seconds), team=Team())
    job: Any = SimpleNamespace(max_tokens=None, max_minutes=1.0)
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    _Budget(trainer, job).on_step_end(None, None, control)
    assert (control.should_training_stop, control.should_save) == (stops, stops)


def test_a_signal_during_the_evaluation_before_training_leaves_at_once() -> None:
    job = read_job(None, {}, [])
    noticed = Interruption(Team())
    with pytest.raises(Interrupted, match="while not training: go on with --resume"), noticed.watch():
        _evaluate_first(job, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 0 else None)
