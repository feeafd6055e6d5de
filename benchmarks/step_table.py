"""The result of step.py as a section of Markdown."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from same_rollouts import OURS, TRL


def table(result: dict[str, Any]) -> str:
    """The result as a section of Markdown."""
    same, steps = result["same_rollouts"], result["steps"]
    theirs, ours = steps["seconds"]["trl"], steps["seconds"]["ours"]
    per_token = steps["seconds_per_1000_tokens"]
    rounding = same["distance_from_float32"]
    far = f" (from TRL's in float32: TRL {rounding[TRL]:.1e}, MASA {rounding[OURS]:.1e})" if rounding else ""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    lines = [
        f"### {result['case']}, {result['precision']}, {result['parameters']}",
        "",
        f"{result['machine']}; {versions}.",
        f"{result['batch']}. TRL's micro-batches: {same['micro_batch']} rows, the fastest of "
        + ", ".join(f"{size} ({seconds:.2f} s)" for size, seconds in same["micro_batch_seconds"].items())
        + " for one update.",
        "",
        f"| median of {result['pairs']} pairs of steps | TRL, s | MASA, s | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| generate | {theirs['generate']:.3f} | {ours['generate']:.3f} | {steps['ratio_parts']['generate']:.2f} |",
        f"| score | {theirs['score']:.3f} | {ours['score']:.3f} | |",
        f"| update | {theirs['update']:.3f} | {ours['update']:.3f} | {steps['ratio_parts']['update']:.2f} |",
        f"| **step** | {theirs['step']:.3f} | {ours['step']:.3f} | **{steps['ratio']['median']:.2f}** "
        f"({steps['ratio']['lowest']:.2f} to {steps['ratio']['highest']:.2f}) |",
        f"| step, CPU seconds | {theirs['cpu']:.3f} | {ours['cpu']:.3f} | {steps['ratio_parts']['cpu']:.2f} |",
        f"| step, per 1,000 tokens rolled out | {per_token['trl']:.3f} | {per_token['ours']:.3f} | "
        f"{per_token['trl'] / per_token['ours']:.2f} |",
        "",
        f"Mean tokens of a rollout: TRL {steps['tokens']['trl']:.1f}, MASA {steps['tokens']['ours']:.1f}.",
        "",
        f"On the same rollouts ({same['live_rows']} of {same['rows']} rows have an advantage): loss "
        f"{same['loss'][TRL]:.7f} (TRL), {same['loss'][OURS]:.7f} (MASA); gradients differ by "
        f"{same['gradient_gap']:.1e} of their norm{far}.",
        "",
        "| update on the same rollouts, forward and backward | s | times as fast as TRL |",
        "| --- | ---: | ---: |",
        *(
            f"| {'' if name == TRL else '+ '}{name} | {seconds:.3f} | {same['ratio'][name]:.1f} |"
            for name, seconds in same["seconds"].items()
        ),
    ]
    return "\n".join(lines)
