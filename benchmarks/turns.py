"""Two trainers at work in one process, a step each in turn, and what each step took."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

PARTS = ("generate", "score", "update")


class Turns:
    """Lets trainers in threads of their own work one after the other, a step each."""

    def __init__(self, names: Sequence[str]) -> None:
        self._waiting = list(names)
        self._changed = threading.Condition()
        self.failed: BaseException | None = None

    def take(self, name: str) -> None:
        """Wait until it is `name`'s turn."""
        with self._changed:
            self._changed.wait_for(lambda: self.failed or self._waiting[0] == name)
            if self.failed:
                raise RuntimeError("the other trainer failed") from self.failed

    def pass_on(self, name: str, *, leaving: bool = False) -> None:
        """Let the next one work; `name` comes again after all others, unless it is leaving."""
        with self._changed:
            self._waiting.remove(name)
            if not leaving:
                self._waiting.append(name)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Wake the others up to the end of it."""
        with self._changed:
            self.failed = self.failed or error
            self._changed.notify_all()


class StepClock(TrainerCallback):
    """Seconds from the beginning of each step to the beginning of the next, and the turns in between."""

    def __init__(self, name: str, turns: Turns) -> None:
        self._name, self._turns = name, turns
        self.spent = dict.fromkeys(PARTS[:2], 0.0)
        """Seconds of the current step, filled in by `spending`."""
        self.steps: list[dict[str, float]] = []
        self._start: tuple[float, float] | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self._start is not None:
            self._close()
            self._turns.pass_on(self._name)
            self._turns.take(self._name)
        # Only one trainer works at a time, so the process's CPU time is its own.
        self._start = time.perf_counter(), time.process_time()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._close()

    def _close(self) -> None:
        assert self._start is not None
        start, cpu_start = self._start
        total, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        self.steps.append(self.spent | {"update": total - sum(self.spent.values()), "step": total, "cpu": cpu})
        self.spent = dict.fromkeys(PARTS[:2], 0.0)
        print(f"  {self._name}: { ({part: round(x, 3) for part, x in self.steps[-1].items()}) }", file=sys.stderr)

    @contextmanager
    def spending(self, part: str) -> Iterator[None]:
        """Count the time until the context ends to `part`, less what an inner context counted."""
        start, inner = time.perf_counter(), sum(self.spent.values())
        yield
        self.spent[part] += time.perf_counter() - start - (sum(self.spent.values()) - inner)

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Count every call of a method to `part`."""
        original = getattr(owner, method)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.spending(part):
                return original(*args, **kwargs)

        setattr(owner, method, wrapped)
