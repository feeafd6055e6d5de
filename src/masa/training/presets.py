"""The named settings of the papers: what a preset decides where the user does not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

NEVER = "never"
"""Value of `parallel_steps` for runs that stay in the parallel phase."""

_COMMON: dict[str, Any] = {
    "epsilon_high": 0.28,
    "num_meta_generations": 0,
    "parallel_steps": NEVER,
    "gate": "none",
    "cutoff": False,
    "cutoff_factor": 2.0,
    "expert_sft": False,
    "expert_include_unsolved": False,
    "hints": False,
}

SAME_AS_SOLUTIONS = "num_generations"
HALF_OF_SOLUTIONS = "num_generations / 2"

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "grpo": _COMMON,
        "masa": _COMMON | {"num_meta_generations": SAME_AS_SOLUTIONS},
        "masa-expert": _COMMON | {"num_meta_generations": SAME_AS_SOLUTIONS, "expert_sft": True},
        "masa-efficient": _COMMON
        | {
            "num_meta_generations": SAME_AS_SOLUTIONS,
            "parallel_steps": 120,
            "gate": "self",
            "cutoff": True,
            "cutoff_factor": 2.0,
            "expert_sft": True,
            "hints": True,
        },
        "mapr": _COMMON | {"num_meta_generations": HALF_OF_SOLUTIONS},
        "mapr-efficient": _COMMON
        | {
            "num_meta_generations": HALF_OF_SOLUTIONS,
            "parallel_steps": 80,
            "gate": "self",
            "cutoff": True,
            "cutoff_factor": 1.5,
        },
    }
)
"""Settings of arXiv 2510.03259: `masa*` are its first version (MASA), `mapr*` its second (MAPR)."""


def resolve(preset: str, name: str, *, num_generations: int) -> Any:
    """The value of a field that the user left to the preset."""
    value = PRESETS[preset][name]
    if name == "num_meta_generations":
        if value == SAME_AS_SOLUTIONS:
            return num_generations
        if value == HALF_OF_SOLUTIONS:
            return max(2, num_generations // 2)
    return value
