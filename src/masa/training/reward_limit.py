"""A time limit on reward functions that run in this process.

A call past its limit is given up: its thread is told to end by an exception that is raised in it, and is left behind if
it does not. What this cannot do: end a call that waits in the operating system (its thread lasts as long as the wait),
or return at all while foreign code holds Python's lock (a regular expression that backtracks for ever does). Functions
run in a thread other than the main one, where Python allows no signal handlers: a function with a time limit of its own
by SIGALRM must leave that off. Such functions, and untrusted ones, belong in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import functools
import inspect
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

Reward = Callable[..., Any]


class RewardLimit:
    """Gives reward functions a time limit, and counts the calls that ran into it.

    Args:
        seconds: of one call, which is given all answers of a step; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._given_up = 0

    def limited(self, functions: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """The functions under the limit; a call past it gives None for each answer. Reward models are left alone."""
        if self._seconds is None:
            return list(functions)
        return [
            function if isinstance(function, nn.Module) else self._limit(function, name)
            for function, name in zip(functions, names, strict=True)
        ]

    def metrics(self) -> dict[str, int]:
        """Calls given up since this was last asked; nothing without a limit."""
        given_up, self._given_up = self._given_up, 0
        return {} if self._seconds is None else {"reward/timeouts": given_up}

    def _limit(self, function: Reward, name: str) -> Reward:
        seconds = self._seconds
        assert seconds is not None
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

            async def wait(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await asyncio.wait_for(function(*args, **kwargs), seconds)
                except TimeoutError:
                    return self._give_up(name, kwargs)

            return wait

        @functools.wraps(function, updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return _run(functools.partial(function, *args, **kwargs), seconds)
            except _TimeUp:
                return self._give_up(name, kwargs)

        return run

    def _give_up(self, name: str, kwargs: dict[str, Any]) -> list[None]:
        self._given_up += 1
        count = len(kwargs["completions"])
        warnings.warn(
            f"reward function {name!r} took longer than reward_timeout ({self._seconds:g} s): its {count} answers of "
            "this step are ungraded",
            stacklevel=2,
        )
        return [None] * count


class _TimeUp(BaseException):
    """The limit is reached; no `except Exception` of the function's takes it for its own."""


def _run(call: Callable[[], Any], seconds: float) -> Any:
    """What `call` gives or raises, from a thread of its own, or `_TimeUp` after `seconds`."""
    results: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            results.append((call(), None))
        except BaseException as error:  # raised again where it can be seen
            results.append((None, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True, name="reward")
    thread.start()
    thread.join(seconds)
    if not results:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TimeUp))
        raise _TimeUp
    value, error = results[0]
    if error is not None:
        raise error
    return value
