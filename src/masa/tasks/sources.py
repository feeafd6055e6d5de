"""Rows from files, folders, the Hub and memory, each with the place it came from.

A source yields `(place, row)`; where a row could not be read, `row` is the complaint, a text without the place.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.errors import UserError

Row = Mapping[str, Any]
PlacedRow = tuple[str, Row | str]

_LINES = (".jsonl", ".ndjson", ".jsonl.gz")
_READABLE = (*_LINES, ".json", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def open_source(source: str, *, split: str | None, config: str | None) -> tuple[str, Iterable[PlacedRow]]:
    """Name and rows of a file, a folder saved by `datasets`, or a Hub data set.

    Raises:
        UserError: if there is no such thing; the Hub is asked only for `owner/name`.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return str(path), read_file(path)
    if path.is_dir():
        return str(path), _saved_dataset(path, split)
    if looks_like_file(source):
        raise UserError(f"data file {source} does not exist: check the path")
    if not _HUB_ID.fullmatch(source):
        raise UserError(
            f"data {source!r} is neither a file, nor a Hub id (owner/name), nor a task of ours "
            "(bundled, reasoning_gym:<name>), nor a benchmark (masa data list): check the spelling"
        )
    return source, _hub_dataset(source, split, config)


def looks_like_file(source: str) -> bool:
    """Whether a text that names nothing on disk was meant as a path and not as a Hub id."""
    path = Path(source)
    return (
        source.startswith(("/", "./", "../", "~"))
        or "\\" in source
        or source.casefold().endswith((*_READABLE, ".csv", ".tsv", ".txt", ".gz", ".zip"))
        or len(path.parts) > 2
        or (len(path.parts) == 2 and Path(path.parts[0]).is_dir())
    )


def read_file(path: Path, columns: Collection[str] | None = None) -> Iterator[PlacedRow]:
    """Rows of a JSONL (also gzipped), JSON (list of objects) or Parquet file, by its ending.

    JSONL and Parquet are read bit by bit, so that memory does not grow with the file.

    Args:
        path: the file.
        columns: those of a Parquet file that are wanted, as far as it has them; by default all.

    Raises:
        UserError: for another ending, or a file that is not what its ending says; also while rows are taken.
    """
    name = path.name.casefold()
    if name.endswith(_LINES):
        return read_json_lines(_read_lines(path), str(path))
    if name.endswith(".json"):
        data = _read_bytes(path)
        return (
            _json_list(path, data)
            if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
            else read_json_lines(data.split(b"\n"), str(path))
        )
    if name.endswith(".parquet"):
        return _parquet(path, columns)
    raise UserError(f"{path}: cannot read this kind of file; give one of {', '.join(_READABLE)}")


def rows_in_memory(rows: Iterable[Row], name: str) -> Iterator[PlacedRow]:
    """Rows that are there already, such as a `datasets.Dataset` or a list."""
    for index, row in enumerate(rows):
        place = f"{name}, row {index}"
        yield place, row if isinstance(row, Mapping) else f"a {type(row).__name__} where a mapping was expected"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _read_lines(path: Path) -> Iterator[bytes]:
    # By "\n" alone, as binary files do: str.splitlines would also cut at U+2028, which stands inside some texts.
    try:
        with gzip.open(path) if path.name.casefold().endswith(".gz") else path.open("rb") as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def read_json_lines(lines: Iterable[bytes], name: str) -> Iterator[PlacedRow]:
    """Rows of JSONL, one a line; `name` is where the lines came from."""
    for number, line in enumerate(lines, start=1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield f"{name}, line {number}", _json_object(line)


def _json_object(line: bytes) -> Row | str:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1})"
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        return f"not valid JSON ({error})"
    return row if isinstance(row, dict) else f"a JSON object was expected, this is {_json_name(row)}"


def _json_list(path: Path, data: bytes) -> Iterator[PlacedRow]:
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    for index, row in enumerate(rows):
        good = row if isinstance(row, dict) else f"a JSON object was expected, this is {_json_name(row)}"
        yield f"{path}, entry {index + 1}", good


def _json_name(value: Any) -> str:
    names = {str: "a string", list: "a list", bool: "a boolean", type(None): "null", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)


def _parquet(path: Path, columns: Collection[str] | None) -> Iterator[PlacedRow]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({_first_line(error)})") from None

    def rows() -> Iterator[PlacedRow]:
        number = 0
        names = None if columns is None else [name for name in file.schema_arrow.names if name in columns]
        for batch in file.iter_batches(batch_size=1024, columns=names):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row

    return rows()


def _saved_dataset(path: Path, split: str | None) -> Iterator[PlacedRow]:
    if not any((path / name).exists() for name in ("state.json", "dataset_info.json", "dataset_dict.json")):
        files = sorted(entry.name for entry in path.iterdir() if entry.name.endswith(_READABLE))
        remedy = f"name one of its files, for example {path / files[0]}" if files else "name a file"
        raise UserError(f"{path} is a folder without a data set saved by `datasets`: {remedy}")
    import datasets

    loaded = datasets.load_from_disk(str(path))
    if isinstance(loaded, Mapping):
        loaded = loaded[_pick_split(str(path), list(loaded), split)]
    return rows_in_memory(loaded, str(path))


def _hub_dataset(name: str, split: str | None, config: str | None) -> Iterator[PlacedRow]:
    import datasets

    try:
        loaded = datasets.load_dataset(name, config)
    except Exception as error:  # the Hub client raises errors of many libraries, all of them about this name
        raise UserError(
            f"data {name!r} is not a file here, and the Hub would not give it ({_first_line(error)}): "
            "check the spelling, the network and, if it has several, the config"
        ) from None
    loaded = loaded[_pick_split(name, list(loaded), split)]
    return rows_in_memory(loaded, name)


def _pick_split(name: str, splits: Sequence[str], split: str | None) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    wanted = split or "train"
    if wanted not in splits:
        raise UserError(f"data {name!r} has no split {wanted!r}: it has {', '.join(splits)}")
    return wanted


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
