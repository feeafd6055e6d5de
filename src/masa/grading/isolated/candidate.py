"""The program under test, in a process of its own: it runs here and answers what the tests ask of it.

Nothing here is to be believed: the program may change every line of this module. Only plain data leaves it.
"""

from __future__ import annotations

import os
import sys
import types

from masa.grading.isolated import limits
from masa.grading.isolated.wire import OBJECT, Channel, ClosedError, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


FLAGS = ("-P", "-s", "-S", "-B")
"""Of the interpreter: no path but the standard library's. The environment is ours, its hash seed too."""


class _Server:
    """Answers requests on the objects that the program defines."""

    def __init__(self, channel: Channel, module: types.ModuleType) -> None:
        self._channel = channel
        self._module = module
        self._objects: list[Any] = []
        self._numbers: dict[int, int] = {}

    def serve(self) -> None:
        """Until the other side hangs up."""
        while True:
            request = self._channel.receive()
            try:
                reply = getattr(self, "_" + request["op"])(request)
            except Exception as error:  # whatever the program raises is the test's to judge
                reply = {"error": _described(error)}
            except BaseException as error:  # the program asked to end: the tests see an error like any other
                reply = {"error": ["RuntimeError", f"the program ended itself ({type(error).__name__})"]}
            self._channel.send(reply)

    def _handle(self, value: Any) -> dict[str, int]:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)  # kept alive, so that the id stays its own
        return {OBJECT: number}

    def _encode(self, value: Any) -> Any:
        return encode(value, self._handle)

    def _decode(self, data: Any) -> Any:
        return decode(data, self._resolve)

    def _resolve(self, tag: str, number: int) -> Any:
        if tag == OBJECT:
            return self._objects[number]

        def callback(*args: Any) -> Any:
            self._channel.send({"callback": number, "args": [self._encode(arg) for arg in args]})
            reply = self._channel.receive()
            if "error" in reply:
                raise RuntimeError(reply["error"])
            return self._decode(reply["value"])

        return callback

    def _get(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["name"] not in self._module.__dict__:
            return {"missing": True}
        return {"value": self._encode(self._module.__dict__[request["name"]])}

    def _call(self, request: dict[str, Any]) -> dict[str, Any]:
        target = self._objects[request["target"]]
        args = [self._decode(arg) for arg in request["args"]]
        kwargs = {name: self._decode(value) for name, value in request["kwargs"].items()}
        result = self._encode(target(*args, **kwargs))
        # Tests may look at what became of their arguments.
        changed = [
            [index, self._encode(arg)]
            for index, arg in enumerate(args)
            if isinstance(arg, list | dict | set) and self._encode(arg) != request["args"][index]
        ]
        return {"value": result, "changed": changed}

    def _getattr(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"value": self._encode(getattr(self._objects[request["target"]], request["name"]))}

    def _setattr(self, request: dict[str, Any]) -> dict[str, Any]:
        setattr(self._objects[request["target"]], request["name"], self._decode(request["value"]))
        return {"value": None}

    def _getitem(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"value": self._encode(self._objects[request["target"]][self._decode(request["key"])])}

    def _len(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"value": len(self._objects[request["target"]])}

    def _iter(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"value": self._handle(iter(self._objects[request["target"]]))}

    def _next(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"value": self._encode(next(self._objects[request["target"]]))}
        except StopIteration:
            return {"stop": True}


def _described(error: BaseException) -> list[str]:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return [type(error).__name__, text[:300]]


def confine(bounds: Mapping[str, float], stdin: int, stdout: int) -> None:
    """Limits on this process, and its standard input and output; what it says of errors goes nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor, source in enumerate((stdin, stdout, nothing)):
        os.dup2(nothing if source < 0 else source, descriptor)
    limits.limit(bounds)
    limits.deny_system_calls()


def serve_functions(channel: Channel) -> None:
    """Takes limits and program from the channel, runs the program, and lets the tests call what it defines."""
    job = channel.receive()
    confine(job["limits"], -1, -1)
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        exec(compile(job["code"], "solution.py", "exec"), module.__dict__)
    except BaseException as error:
        channel.send({"error": _described(error)})
        return
    channel.send({"value": None})
    try:
        _Server(channel, module).serve()
    except ClosedError:
        return


def run_program(reader: int) -> None:
    """Takes a program from a pipe and runs it as a script."""
    with open(reader, encoding="utf-8") as pipe:
        source = pipe.read()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    exec(compile(source, "solution.py", "exec"), module.__dict__)
