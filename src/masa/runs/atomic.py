"""Files that are whole or not there: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from masa.runs import disk


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replaces `path` by `data` so that a reader, or a kill at any moment, sees the old file or the new one.

    Raises:
        OSError: if the folder does not exist or the disk is full, with the file's name; the old file is then untouched.
    """
    target = Path(path)
    # In the same folder, since a rename is atomic only within one file system; not `tempfile`, whose files
    # are readable by their owner alone whatever the umask says.
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:  # a KeyboardInterrupt must not leave the temporary file behind either
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise disk.explained(error, target, len(data)) from error
        raise


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Deletes what kills left of `atomic_write_bytes` in a folder that no process writes now."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """`atomic_write_bytes` for text, as UTF-8 with the line ends it has.

    Raises:
        OSError: if the folder does not exist or the disk is full; the old file is then untouched.
    """
    # A lone surrogate (a model can produce one) has no UTF-8 form; as an escape it does no harm.
    atomic_write_bytes(path, text.encode("utf-8", "backslashreplace"))
