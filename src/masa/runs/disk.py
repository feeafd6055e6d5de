"""A full disk, said in one line: which file, how much it needs, how much there is."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left", "disk quota", "file write failed")
"""What libraries say that raise errors of their own: safetensors, and torch's writer, which keeps no errno."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or one it came from, says that the disk or the user's quota is full."""
    passed: set[int] = set()  # a chain may run in a circle: `raise error from error`
    seen: BaseException | None = error
    while seen is not None and id(seen) not in passed:
        if getattr(seen, "errno", None) in _FULL or any(word in str(seen).casefold() for word in _WORDS):
            return True
        passed.add(id(seen))
        seen = seen.__cause__ or seen.__context__
    return False


def megabytes(size: float) -> str:
    """A size in bytes, as text."""
    return f"{size / 1e6:,.1f} MB"


def free(folder: Path) -> int:
    """Bytes that may still be written below `folder`, which exists."""
    return shutil.disk_usage(folder).free


def explained(error: OSError, path: str | os.PathLike[str], needed: int) -> OSError:
    """The error with the file's name, and for a full disk with what is needed and free; `needed` in bytes."""
    if error.errno not in _FULL:
        return error
    folder = Path(path).parent
    words = f"{error.strerror} ({megabytes(needed)} needed, {megabytes(free(folder))} free)"
    return OSError(error.errno, words, os.fspath(path))
