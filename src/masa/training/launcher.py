"""Whether as many processes are here as were asked for."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from masa.errors import UserError


def refuse_lost_processes(size: int) -> None:
    """`accelerate launch --cpu --num_processes N` starts one process and says nothing; neither would the run.

    Args:
        size: the processes that have found each other.

    Raises:
        UserError: if a launcher was asked for more.
    """
    wanted = max(int(os.environ.get("WORLD_SIZE") or 1), _asked_of_accelerate())
    if size < wanted:
        raise UserError(
            f"{wanted} processes were asked for, {size} is here: on a CPU accelerate launch starts one only; use "
            f"torchrun --nproc_per_node {wanted} -m masa.cli train ..., or your script in its place"
        )


def _asked_of_accelerate() -> int:
    """The number of processes in the command line of the accelerate launcher that started this process; 1 without."""
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent is not None else []
        for place, word in enumerate(words[:3]):
            name = Path(word).name
            if name == "accelerate-launch" or (name == "accelerate" and words[place + 1 : place + 2] == ["launch"]):
                return _number(words[place + 1 :])
    return 1


def _number(words: list[str]) -> int:
    for place, word in enumerate(words):
        name, sign, value = word.replace("_", "-").partition("=")
        if name == "--num-processes":
            value = value if sign else "".join(words[place + 1 : place + 2])
            return int(value) if value.isdecimal() else 1
    return 1
