"""The named settings of the papers: what a preset decides where the user does not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

NEVER = "never"
"""Value of `parallel_steps` for runs that stay in the parallel phase."""
AUTO = "auto"
"""Value of `parallel_steps` for runs that enter and leave the predictive phase by the gate's audits."""

SPENT_ON_OTHERS = ("before", "best")
"""Values of `refill` that spend what the gate saves on further problems."""

COMMON: dict[str, Any] = {
    "epsilon_high": 0.28,
    "num_meta_generations": 0,
    "parallel_steps": NEVER,
    "gate": "none",
    "gate_threshold": 0.9,
    "refill": "none",
    "refill_limit": 3.0,
    "allocation": "uniform",
    "meta_problems": "all",
    "cutoff": False,
    "cutoff_rule": "paper",
    "cutoff_factor": 2.0,
    "expert_sft": False,
    "expert_include_unsolved": False,
    "hints": False,
}
"""What presets decide, and what they decide of it unless they say otherwise."""

SAME_AS_SOLUTIONS = "num_generations"
HALF_OF_SOLUTIONS = "num_generations / 2"

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "grpo": COMMON,
        "dapo": COMMON | {"refill": "after"},
        "greso": COMMON | {"parallel_steps": 0, "gate": "history", "refill": "before"},
        "masa": COMMON | {"num_meta_generations": SAME_AS_SOLUTIONS},
        "masa-expert": COMMON | {"num_meta_generations": SAME_AS_SOLUTIONS, "expert_sft": True},
        "masa-efficient": COMMON
        | {
            "num_meta_generations": SAME_AS_SOLUTIONS,
            "parallel_steps": 120,
            "gate": "self",
            "cutoff": True,
            "cutoff_factor": 2.0,
            "expert_sft": True,
            "hints": True,
        },
        "mapr": COMMON | {"num_meta_generations": HALF_OF_SOLUTIONS},
        "mapr-efficient": COMMON
        | {
            "num_meta_generations": HALF_OF_SOLUTIONS,
            "parallel_steps": 80,
            "gate": "self",
            "cutoff": True,
            "cutoff_factor": 1.5,
        },
        "masa-plus": COMMON
        | {
            "parallel_steps": 0,
            "gate": "stacked",
            "refill": "best",
            "refill_limit": 4.0,
        },
    }
)
"""`masa*` are arXiv 2510.03259's first version (MASA), `mapr*` its second (MAPR), `dapo` is arXiv 2503.14476's dynamic
sampling, `greso` arXiv 2506.02177; `masa-plus` is ours, as measured in docs/results.md."""


def resolve(preset: str, name: str, *, num_generations: int) -> Any:
    """The value of a field that the user left to the preset."""
    value = PRESETS[preset][name]
    if name == "num_meta_generations":
        if value == SAME_AS_SOLUTIONS:
            return num_generations
        if value == HALF_OF_SOLUTIONS:
            return max(2, num_generations // 2)
    return value
