"""Ctrl-C and SIGTERM: training finishes its step, saves a checkpoint and leaves; a second signal leaves at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from masa.errors import Interrupted
from masa.processes import Team

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the two that Windows knows as well

_ECHO = 2.0
"""Seconds in which a launcher passes on to each process a signal that others of them know of already."""

Handler = Callable[[int, FrameType | None], None]


class Interruption(TrainerCallback):  # type: ignore[misc]
    """Ends training after the step during which a signal came, with a checkpoint whatever `save_strategy` says.

    Args:
        team: processes that end together, whichever of them a signal reached first.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._number: int | None = None
        self._since = 0.0
        self._words = ""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Notes signals for as long as the context lasts; outside the main thread Python allows no handler.

        Raises:
            Interrupted: at the end if a signal came, at once if a second one comes.
        """
        self._number, self._words = None, "before a step was done"
        with _handled(self._note):
            yield
            self._agree()  # one that came after the last step, to some of the processes
        if self._number is not None:
            raise Interrupted(self._number, self._words)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._number is not None:
            if self._team.size > 1 and time.monotonic() - self._since < _ECHO:
                return
            for each in _SIGNALS:  # a third signal ends the process, whatever it is busy with
                signal.signal(each, signal.SIG_DFL)
            raise Interrupted(number, "at once, for the second time; what the last checkpoint holds is kept")
        self._number, self._since = number, time.monotonic()
        if not self._team.is_main:
            return
        # Not `print`: it is not safe to enter from a handler while the main program prints.
        os.write(2, b"\nfinishing this step, then saving a checkpoint; a second signal leaves at once\n")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._words = f"after step {state.global_step}"
        if self._agree():
            control.should_save = control.should_training_stop = True

    def _agree(self) -> bool:
        """Whether a signal came to any of the processes, of which all then know; called by all together."""
        noticed = [number for number in self._team.gather(self._number) if number is not None]
        if noticed:
            if self._number is None:
                self._since = time.monotonic()  # its own may be on its way
            self._number = noticed[0]
        return bool(noticed)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Note where to go on from.

        Raises:
            Interrupted: where the orderly end of training would delete all checkpoints but the best one.
        """
        step = state.global_step
        self._words = f"after step {step}: checkpoint-{step} is saved in {args.output_dir}, --resume goes on from it"
        if args.save_total_limit == 1 and state.best_model_checkpoint and self._agree():
            assert self._number is not None
            raise Interrupted(self._number, self._words)


@contextmanager
def leaving_with_a_word(words: str) -> Iterator[None]:
    """Turns a signal into `Interrupted` at once, for work around training that is simply done again.

    Args:
        words: what was kept and how to go on.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise Interrupted(number, words)

    with _handled(leave):
        yield


@contextmanager
def _handled(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            # None: installed by other than Python, and cannot be put back by it
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)
