"""A process that grades mathematics for `masa.grading.pool`, one answer after another, and may be killed at any time.

It reads chunks and writes verdicts, a line of JSON each. An alarm that no Python code has to handle ends it should it
outlive an answer's time limit while nobody watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from masa.grading.settings import MathSettings

READY, FAULT = "ready", "fault"
MEMORY = 4 * 2**30
"""Bytes of address space; numbers that grow beyond it end in an error, not in a machine without memory."""
GRACE = 2.0
"""Seconds that the alarm leaves to whoever watches."""


def main(seconds: float, job: str = "math") -> None:
    """Serves standard input until it ends.

    Args:
        seconds: time limit of one answer.
        job: `math`, or the module and function (`module:function`) that takes an answer apart instead, for tests.
    """
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print must not look like a verdict
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to end this
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for what, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        with contextlib.suppress(OSError, ValueError):  # not every system knows a limit on memory
            resource.setrlimit(what, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        grade = _grader(job)
        _say(output, [READY])
    except Exception as error:
        _say(output, [FAULT, f"{type(error).__name__}: {error}"])
        return
    for line in sys.stdin:
        chunk = json.loads(line)
        settings = [MathSettings(**values) for values in chunk["settings"]]
        for text, golds, stated, which in chunk["answers"]:
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE)
            verdict = grade(text, golds, stated, settings[which])
            signal.setitimer(signal.ITIMER_REAL, 0)
            _say(output, verdict)


def _grader(job: str) -> Callable[[str, list[str], bool, MathSettings], Any]:
    if job != "math":
        import importlib

        module, _, name = job.partition(":")
        found: Callable[[str, list[str], bool, MathSettings], Any] = getattr(importlib.import_module(module), name)
        return found
    from masa.grading.math import grade_here
    from masa.grading.math_rules import compare

    compare("\\frac{x}{2}", "0.5x", MathSettings())  # loads all that is loaded late
    return grade_here


def _say(output: Any, verdict: Any) -> None:
    try:
        output.write(json.dumps(verdict) + "\n")
        output.flush()
    except BrokenPipeError:
        os._exit(0)
