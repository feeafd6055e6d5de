"""Values as plain data: what a program under test and its tests may say to each other.

Only built-in values of a closed list survive the way, rebuilt from JSON on arrival. An object with an `__eq__` of its
own cannot arrive as such: it stays where it is and is named by a number.
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque

TYPE_CHECKING = False  # the typing module costs as much time as all the rest here
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_FRAME = 64 * 2**20
"""Bytes of one message; what is longer ends the test."""
OBJECT, CALLBACK = "h", "n"
_SAFE_INTEGER = 2**53


class ClosedError(Exception):
    """The other side is gone, or said what cannot be read."""


class Channel:
    """Messages over two pipes, each its length in four bytes and then JSON."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, message: Any) -> None:
        """One message.

        Raises:
            ClosedError: if nobody reads any more.
        """
        data = json.dumps(message).encode("ascii")
        data = struct.pack(">I", len(data)) + data
        try:
            while data:
                data = data[os.write(self._writer, data) :]
        except OSError:
            raise ClosedError from None

    def receive(self) -> Any:
        """The next message.

        Raises:
            ClosedError: at the end, or if what comes is not a message.
        """
        (size,) = struct.unpack(">I", self._exactly(4))
        if size > MAX_FRAME:
            raise ClosedError
        try:
            return json.loads(self._exactly(size))
        except (ValueError, RecursionError):
            raise ClosedError from None

    def close(self) -> None:
        """Hangs up."""
        os.close(self._reader)
        os.close(self._writer)

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = os.read(self._reader, min(size, 2**20))
            except OSError:
                part = b""
            if not part:
                raise ClosedError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def encode(value: Any, handle: Callable[[Any], dict[str, int]]) -> Any:
    """A value for JSON. Subclasses of built-in types go as their base; the rest by the number that `handle` gives."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else {"i": hex(value)}
    if kind is float:
        return {"f": value.hex()}
    if kind is list:
        return [encode(item, handle) for item in value]
    for base, tag in _SEQUENCES:
        if isinstance(value, base):
            items = [encode(item, handle) for item in base.__iter__(value)]
            return items if tag == "l" else {tag: items}
    if isinstance(value, dict):
        return {"d": [[encode(key, handle), encode(item, handle)] for key, item in dict.items(value)]}
    if isinstance(value, str):
        return "".join(str.__iter__(value))
    if isinstance(value, int):
        return encode(int.__add__(value, 0), handle)
    if isinstance(value, float):
        return {"f": float.hex(value)}
    if kind in (bytes, bytearray):
        return {"b" if kind is bytes else "a": value.hex()}
    if kind is complex:
        return {"c": [value.real.hex(), value.imag.hex()]}
    if kind is range:
        return {"r": [hex(part) for part in (value.start, value.stop, value.step)]}
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _BY_NAME:
        tag, parts = _BY_NAME[name]
        return {tag: parts(value)}
    return handle(value)


_SEQUENCES: tuple[tuple[Any, str], ...] = (
    (tuple, "t"),
    (list, "l"),
    (set, "s"),
    (frozenset, "z"),
    (deque, "k"),
)
# By name, so that the modules are loaded only by programs that use them.
_BY_NAME: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "fractions.Fraction": ("q", lambda value: [hex(value.numerator), hex(value.denominator)]),
    "decimal.Decimal": ("m", str),
    "datetime.date": ("e", lambda value: ["date", value.isoformat()]),
    "datetime.time": ("e", lambda value: ["time", value.isoformat()]),
    "datetime.datetime": ("e", lambda value: ["datetime", value.isoformat()]),
    "datetime.timedelta": ("w", lambda value: [value.days, value.seconds, value.microseconds]),
}


def decode(data: Any, resolve: Callable[[str, int], Any]) -> Any:
    """The value again; `resolve` finds what has only a number: an object, or a function of the tests' (`CALLBACK`).

    Raises:
        ClosedError: for what `encode` never writes.
    """
    if data is None or isinstance(data, bool | str | int):
        return data
    if isinstance(data, list):
        return [decode(item, resolve) for item in data]
    try:
        ((tag, body),) = data.items()
        if tag == "d":
            return {decode(key, resolve): decode(item, resolve) for key, item in body}
        if tag in _COLLECT:
            return _COLLECT[tag](decode(item, resolve) for item in body)
        if tag in (OBJECT, CALLBACK):
            return resolve(tag, int(body))
        return _SIMPLE[tag](body)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, ArithmeticError):
        raise ClosedError from None


def _fraction(body: Any) -> Any:
    from fractions import Fraction

    return Fraction(*(int(part, 16) for part in body))


def _decimal(body: Any) -> Any:
    from decimal import Decimal

    return Decimal(body)


def _moment(body: Any) -> Any:
    import datetime

    kinds: dict[str, Any] = {"date": datetime.date, "time": datetime.time, "datetime": datetime.datetime}
    return kinds[body[0]].fromisoformat(body[1])


def _duration(body: Any) -> Any:
    import datetime

    return datetime.timedelta(*body)


_COLLECT: dict[str, Callable[[Any], Any]] = {"t": tuple, "s": set, "z": frozenset, "k": deque}
_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "i": lambda body: int(body, 16),
    "f": float.fromhex,
    "b": bytes.fromhex,
    "a": bytearray.fromhex,
    "c": lambda body: complex(*map(float.fromhex, body)),
    "r": lambda body: range(*(int(part, 16) for part in body)),
    "q": _fraction,
    "m": _decimal,
    "e": _moment,
    "w": _duration,
}
