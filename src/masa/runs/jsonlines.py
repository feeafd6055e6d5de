"""JSON lines that survive a kill and never hold a non-finite number."""

from __future__ import annotations

import dataclasses
import enum
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.runs import disk
from masa.runs.atomic import atomic_write_bytes

Row = dict[str, Any]

MOST_BYTES = 2**30
"""Of a gzipped file when unpacked: a small file of a stranger's may hold any number."""
_DROPPED = object()


def plain(value: Any) -> Any:
    """`value` in JSON's own types: records, enums, paths, tuples, sets and array scalars are converted.

    Anything else becomes its text. Non-finite floats stay as they are.
    """
    if value is None or isinstance(value, str | bool | int | float):
        # Enum members that are strings or numbers too would otherwise be written as members.
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key.value if isinstance(key, enum.Enum) else key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, bytes | os.PathLike) and not _is_scalar_array(value):
        return [plain(item) for item in value]
    if callable(getattr(value, "item", None)):  # a NumPy scalar or a tensor with one element
        return plain(value.item())
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _is_scalar_array(value: Any) -> bool:
    """Whether an array or tensor has no axis: it looks iterable and is not."""
    return getattr(value, "ndim", None) == 0


def without_nonfinite(value: Any) -> tuple[Any, int]:
    """A copy of plain data without NaN and infinities, and how many there were.

    In a mapping the key goes; in a list None takes the place, since positions have a meaning there.
    """
    cleaned, count = _without_nonfinite(value)
    return (None if cleaned is _DROPPED else cleaned), count


def _without_nonfinite(value: Any) -> tuple[Any, int]:
    if isinstance(value, float):
        return (value, 0) if math.isfinite(value) else (_DROPPED, 1)
    if isinstance(value, dict):
        pairs = {key: _without_nonfinite(item) for key, item in value.items()}
        kept = {key: item for key, (item, _) in pairs.items() if item is not _DROPPED}
        return kept, sum(count for _, count in pairs.values())
    if isinstance(value, list):
        items = [_without_nonfinite(item) for item in value]
        return [None if item is _DROPPED else item for item, _ in items], sum(count for _, count in items)
    return value, 0


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond all floats
        return None


def encode_row(row: Mapping[str, Any]) -> bytes:
    """One line, newline included. Non-finite numbers are left out and counted under the key `nonfinite`."""
    cleaned, dropped = without_nonfinite(plain(row))
    if dropped:
        cleaned["nonfinite"] = dropped
    # Lone surrogates become \udXXX, which is how JSON itself would escape them.
    return json.dumps(cleaned, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def decode_rows(data: bytes, name: str) -> list[Row]:
    """The rows of a file's bytes; an unfinished last line (no newline, not an object) is ignored.

    Raises:
        UserError: if a finished line is not a JSON object; names file and line.
    """
    *lines, tail = data.split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is None:
            raise UserError(f"{name}, line {number}: not a JSON object; the file was changed by hand or damaged")
        rows.append(row)
    last = _parse(tail)
    return rows if last is None else [*rows, last]


def _parse(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of JSON lines; none if the file does not exist.

    Raises:
        UserError: if a finished line is not a JSON object; names file and line.
    """
    return decode_rows(path.read_bytes(), str(path)) if path.exists() else []


def gzip_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as the bytes of a gzipped file; the same rows give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
        for row in rows:
            file.write(encode_row(row))
    return buffer.getvalue()


def read_gzipped_rows(path: Path) -> list[Row]:
    """The rows of a gzipped file.

    Raises:
        UserError: if it is damaged, or larger than a step of rollouts ever is.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(MOST_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from None
    if len(data) > MOST_BYTES:
        raise UserError(f"{path}: more than {MOST_BYTES} bytes when unpacked, which is not read: remove the file")
    return decode_rows(data, str(path))


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line in one write and syncs it. `repair` must have run on the file since the last kill.

    Raises:
        OSError: if the disk is full, with the file's name; the file is then as it was.
    """
    line = encode_row(row)
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            # A disk that fills up takes a part of a write, and says so only at the next.
            written = 0
            while written < len(line):
                written += file.write(line[written:]) or 0
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(size)
            raise disk.explained(error, path, len(line)) from error


def repair(path: Path) -> None:
    """Ends a file that a kill left in the middle of a line: the half line goes, a whole one gets its newline."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        head, _, tail = data.rpartition(b"\n")
        lines = [part for part in (head, tail if _parse(tail) is not None else b"") if part]
        atomic_write_bytes(path, b"".join(line + b"\n" for line in lines))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing(there: Mapping[str, Any], now: Mapping[str, Any], may_differ: Collection[str] = ()) -> list[str]:
    """One text for each setting (dotted name) that has another value, or is in one of the two alone."""
    old, new = flatten(there), flatten(now)
    missing = "(not set)"
    return [
        f"{key}: {old.get(key, missing)!r} there, {new.get(key, missing)!r} now"
        for key in sorted(set(old) | set(new))
        if key not in may_differ and old.get(key, missing) != new.get(key, missing)
    ]
