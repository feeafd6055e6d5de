"""What the processor is good at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

SMALL_MODEL = 10_000_000
"""Below this many parameters, threads of one matrix product wait for each other longer than they work."""


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch's CPU threads for as long as the context lasts; None leaves them alone."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_count(asked: int | None, model: nn.Module) -> int | None:
    """CPU threads for a model: as asked, else one for a small model on a CPU; None leaves them as they are."""
    if asked is not None:
        return asked
    parameters = list(model.parameters())
    is_small = sum(parameter.numel() for parameter in parameters) < SMALL_MODEL
    return 1 if is_small and parameters[0].device.type == "cpu" else None


def cpu_has_fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AMX or AVX512-BF16)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
