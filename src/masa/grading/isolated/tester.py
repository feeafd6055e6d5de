"""Tests on one side, the program under test on the other, in two processes inside one sandbox.

The tests run here and call the program by messages (`wire`), so that a program can neither see what is expected of it,
nor skip a test, nor replace what compares. This process is the first of its process namespace: nothing inside can kill
it, and when it ends the kernel ends all the others.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import os
import select
import signal
import sys
import threading
import time

from masa.grading.isolated import candidate, limits
from masa.grading.isolated.programs import FailedTestError, run_cases
from masa.grading.isolated.wire import CALLBACK, OBJECT, Channel, ClosedError, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, NoReturn

_POLL = 0.05
"""Seconds between looks at the memory in use."""
_OWN_SECONDS = 5
_OWN_MEMORY = 2**29
"""Bytes that the tests may use beyond the program's limit."""


class _Verdict:
    """Says how it ended, once, and ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def interrupt(self, reason: str) -> None:
        """Ends with a failure, unless the end has begun: a signal handler must not wait for its own thread."""
        if not self._lock.locked():
            self.give(False, reason)

    def give(self, passed: bool, reason: str) -> NoReturn:
        """The verdict, as the last thing that this process does."""
        if self._lock.acquire(blocking=False):
            data = json.dumps({"passed": passed, "reason": reason[:500]}).encode("ascii")
            with contextlib.suppress(OSError):
                os.write(1, data)
            os._exit(0)
        while True:  # another thread is about to end the process
            time.sleep(1)


class Remote:
    """An object of the program that is no plain data. It can be used, but never equals anything."""

    def __init__(self, program: _Program, number: int) -> None:
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_number", number)

    def _ask(self, operation: str, **request: Any) -> Any:
        return self._program.ask({"op": operation, "target": self._number, **request})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The program's function or class, on copies of the arguments; what it changes in them is copied back."""
        program = self._program
        reply = program.reply(
            {
                "op": "call",
                "target": self._number,
                "args": [program.encode(arg) for arg in args],
                "kwargs": {name: program.encode(value) for name, value in kwargs.items()},
            }
        )
        for index, data in reply.get("changed", ()):
            _replace(args[index], program.decode(data))
        return program.decode(reply["value"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("getattr", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("setattr", name=name, value=self._program.encode(value))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("getitem", key=self._program.encode(key))

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._ask("iter")
        while True:
            reply = self._program.reply({"op": "next", "target": iterator._number})
            if reply.get("stop"):
                return
            yield self._program.decode(reply["value"])

    def __next__(self) -> Any:
        reply = self._program.reply({"op": "next", "target": self._number})
        if reply.get("stop"):
            raise StopIteration
        return self._program.decode(reply["value"])

    def __eq__(self, other: object) -> bool:
        raise FailedTestError("the program returned an object that is no plain data: it cannot be compared")

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    __bool__ = __hash__ = None  # type: ignore[assignment]


def _replace(argument: Any, changed: Any) -> None:
    if isinstance(argument, list) and isinstance(changed, list):
        argument[:] = changed
    elif isinstance(argument, dict | set) and type(changed) is type(argument):
        argument.clear()
        argument.update(changed)


class _Program:
    """The program, in a process that was forked before this one knew anything of the tests."""

    def __init__(self) -> None:
        asked, ask = os.pipe()
        told, tell = os.pipe()
        self.process = os.fork()
        if not self.process:
            try:
                os.close(ask)
                os.close(told)
                candidate.serve_functions(Channel(asked, tell))
            finally:
                os._exit(0)
        os.close(asked)
        os.close(tell)
        self._channel = Channel(told, ask)
        self._callbacks: list[Callable[..., Any]] = []

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Asks, and gives the answer, or raises what the program raised."""
        try:
            self._channel.send(request)
            reply = self._channel.receive()
            while isinstance(reply, dict) and "callback" in reply:
                self._channel.send(self._call_back(reply))
                reply = self._channel.receive()
        except ClosedError:
            raise FailedTestError("the program ended, or was ended, before the tests were through") from None
        if not isinstance(reply, dict) or not ({"value", "error", "missing", "stop"} & reply.keys()):
            raise FailedTestError("the program broke off")
        if "error" in reply:
            name, text = (str(part)[:300] for part in (*reply["error"], "", "")[:2])
            kind = getattr(builtins, name, None)
            if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind in (StopIteration, UnicodeError):
                kind = RuntimeError
            try:
                error = kind(text)
            except TypeError:  # the kinds that want more than a text
                error = RuntimeError(text)
            error.add_note(f"the program raised {name}: {text}")
            raise error
        return reply

    def ask(self, request: Mapping[str, Any]) -> Any:
        return self.decode(self.reply(request)["value"])

    def get(self, name: str) -> tuple[Any] | None:
        """A name of the program's, or None if it does not define it."""
        reply = self.reply({"op": "get", "name": name})
        return None if reply.get("missing") else (self.decode(reply["value"]),)

    def _call_back(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls a function that a test gave to the program."""
        try:
            function = self._callbacks[int(request["callback"])]
            return {"value": self.encode(function(*(self.decode(arg) for arg in request["args"])))}
        except Exception as error:  # a test's own function may raise anything: the program gets it as an error
            return {"error": f"{type(error).__name__}: {error}"[:300]}

    def encode(self, value: Any) -> Any:
        """A value as the program may have it: a copy, or a number."""
        return encode(value, self._handle)

    def _handle(self, value: Any) -> dict[str, int]:
        if isinstance(value, Remote):
            return {OBJECT: int(value._number)}
        if not callable(value):
            raise TypeError(f"a test gives the program a {type(value).__name__}, which cannot be sent to it")
        self._callbacks.append(value)
        return {CALLBACK: len(self._callbacks) - 1}

    def decode(self, data: Any) -> Any:
        try:
            return decode(data, lambda _, number: Remote(self, number))
        except (ClosedError, RecursionError):
            raise FailedTestError("the program returned what cannot be read") from None


def run_functions(job: Mapping[str, Any], program: _Program) -> None:
    """Runs tests that call the program's functions.

    Raises:
        BaseException: what a failed test raises.
    """
    program.reply({"code": job["code"], "limits": job["limits"]})
    entry = job["entry_point"]
    scope: dict[str, Any] = {"__name__": "tests"}
    trusted = "\n".join((job["prefix"], job["tests"]))
    if job["prefix"]:
        exec(compile(job["prefix"], "prefix", "exec"), scope)
        # The prefix holds the stub of what is asked for; its helpers are the benchmark's own, not the program's.
        scope.pop(entry, None)
    for name in _free_names(trusted):
        if name == entry:
            found = program.get(name)
            if found is None:
                raise FailedTestError(f"the program does not define {name!r}")
            scope[name] = found[0]
        elif name in scope or hasattr(builtins, name):
            continue
        elif name in sys.stdlib_module_names:
            scope[name] = importlib.import_module(name)
        elif (found := program.get(name)) is not None:
            scope[name] = found[0]
    exec(compile(job["tests"], "tests", "exec"), scope)


def _free_names(source: str) -> list[str]:
    """Names that a text reads; what it defines itself under such a name takes the place of the program's."""
    nodes = ast.walk(ast.parse(source))
    return list(
        dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    )


def _watch(life: int, limit: float, verdict: _Verdict) -> None:
    """Ends everything once whoever asked is gone, or all processes together hold more than `limit` bytes."""
    page, own = os.sysconf("SC_PAGE_SIZE"), str(os.getpid())
    while True:
        if select.select([life], [], [], _POLL)[0]:
            os._exit(1)
        total = 0
        for name in os.listdir("/proc"):  # noqa: PTH208
            if name.isdigit() and name != own:
                with (
                    contextlib.suppress(OSError, ValueError, IndexError),
                    open(f"/proc/{name}/statm", "rb") as file,  # noqa: PTH123 - many times a second
                ):
                    total += int(file.read().split()[1]) * page
        if total > limit:
            verdict.give(False, f"memory limit of {int(limit) >> 20} MiB")


def _why(error: BaseException, tests: str) -> str:
    if isinstance(error, FailedTestError):
        return str(error)
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests":
            lines = tests.split("\n")
            line = lines[trace.tb_lineno - 1].strip()[:160] if trace.tb_lineno <= len(lines) else ""
        trace = trace.tb_next
    notes = getattr(error, "__notes__", None)
    what = "a test failed" if isinstance(error, AssertionError) and not notes else ""
    what = what or (notes[0] if notes else f"a test raised {type(error).__name__}: {str(error)[:200]}")
    return f"{what} ({line})" if line else what


def main(*, contained: bool, life: int) -> None:
    """Reads one job from standard input and writes one verdict to standard output.

    Args:
        contained: whether this is the first process of a sandbox, as it should be.
        life: descriptor of a pipe that ends when whoever asked is gone.
    """
    verdict = _Verdict()
    if contained:
        limits.become_nobody()
    os.set_inheritable(life, False)
    os.closerange(3, life)  # what was left open on the way here
    os.closerange(life + 1, 1024)
    program = _Program()
    job = json.loads(sys.stdin.buffer.read())
    seconds, memory = job["limits"]["seconds"], job["limits"]["memory"]
    signal.signal(signal.SIGALRM, lambda *_: verdict.interrupt(f"time limit of {seconds:g} s"))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # The last resort where a test hangs in C: no signal that is not forced reaches the first process of a namespace.
    limits.limit_time(seconds + _OWN_SECONDS)
    limits.limit_memory(memory + _OWN_MEMORY)
    watched = memory if contained else float("inf")
    threading.Thread(target=_watch, args=(life, watched, verdict), daemon=True).start()
    try:
        if job["cases"]:
            os.kill(program.process, signal.SIGKILL)
            run_cases(job)
        else:
            run_functions(job, program)
    except BaseException as error:
        verdict.give(False, _why(error, job["tests"]))
    verdict.give(True, "passed every test")
