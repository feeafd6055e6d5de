"""The machine and the versions a figure was measured with, in words that fit any machine of the kind."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX512-BF16", "amx_bf16": "AMX-BF16"}


def processor() -> str:
    """Model, cores this process may use, and the instruction sets that matter for matrix products."""
    model, flags = platform.processor() or platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            flags = value
    known = [label for flag, label in INSTRUCTIONS.items() if flag in flags.split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join([model, f"{cores} cores", *known])


def versions(*packages: str) -> str:
    """Python's and the packages' versions."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
