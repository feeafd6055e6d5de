"""Whole programs, run on standard inputs and judged by their standard outputs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

from masa.grading.isolated import candidate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_ROOT = os.path.abspath(f"{__file__}/../../../..")  # noqa: PTH100 - pathlib takes long to load


class FailedTestError(BaseException):
    """Not an Exception: tests that catch what the program raises must not catch this."""


def run_cases(job: Mapping[str, Any]) -> None:
    """Runs the whole program once a case, on a standard input, and compares its standard output.

    Raises:
        FailedTestError: at the first case that fails.
    """
    for number, (given, expected) in enumerate(job["cases"], start=1):
        status, output = _run_program(job["code"], given, job["limits"])
        with contextlib.suppress(ProcessLookupError):
            if os.getpid() == 1:
                os.kill(-1, signal.SIGKILL)  # what the program left running must not meet the next case
        if output is None:
            raise FailedTestError(f"case {number}: more than {int(job['limits']['output'])} bytes of output")
        if status != 0:
            raise FailedTestError(f"case {number}: the program failed (status {status})")
        if not same_output(output, expected):
            raise FailedTestError(f"case {number}: wrong output {output[:80]!r}, expected {expected[:80]!r}")


def _run_program(source: str, given: str, bounds: Mapping[str, float]) -> tuple[int, str | None]:
    """Exit status and output (None if there is too much) of one run; its memory holds nothing of this process."""
    text, code = os.pipe()
    stdin, feed = os.pipe()
    drain, stdout = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.set_inheritable(text, True)
            candidate.confine(bounds, stdin, stdout)
            start = f"import sys; sys.path.append({_ROOT!r}); from masa.grading.isolated import candidate; "
            start += f"candidate.run_program({text})"
            os.execv(sys.executable, [sys.executable, *candidate.FLAGS, "-c", start])
        finally:
            os._exit(1)
    for descriptor in (text, stdin, stdout):
        os.close(descriptor)
    waiting = {code: source.encode("utf-8", "replace"), feed: given.encode("utf-8", "replace")}
    for descriptor in waiting:
        os.set_blocking(descriptor, False)
    output = bytearray()
    while len(output) <= bounds["output"]:
        readable, writable, _ = select.select([drain], list(waiting), [])
        for descriptor in writable:
            try:
                waiting[descriptor] = waiting[descriptor][os.write(descriptor, waiting[descriptor][:65536]) :]
            except BrokenPipeError:
                waiting[descriptor] = b""
            if not waiting[descriptor]:
                os.close(descriptor)
                del waiting[descriptor]
        if readable:
            part = os.read(drain, 65536)
            if not part:
                break
            output += part
    for descriptor in (*waiting, drain):
        os.close(descriptor)
    if len(output) > bounds["output"]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, output.decode("utf-8", "replace") if len(output) <= bounds["output"] else None


def same_output(output: str, expected: str) -> bool:
    """Whether two outputs hold the same words in the same lines; numbers compare by value."""
    mine, theirs = ([line.split() for line in text.strip().split("\n")] for text in (output, expected))
    if mine == theirs:
        return True
    return len(mine) == len(theirs) and all(
        len(my_words) == len(their_words) and all(map(_same_word, my_words, their_words))
        for my_words, their_words in zip(mine, theirs, strict=True)
    )


def _same_word(mine: str, theirs: str) -> bool:
    if mine == theirs:
        return True
    if len(mine) > 100 or len(theirs) > 100:
        return False
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(mine) == Decimal(theirs)
    except InvalidOperation:
        return False
