"""The result of step.py as a section of Markdown."""

from __future__ import annotations

from typing import Any


def describe(result: dict[str, Any]) -> str:
    """The result as a section of Markdown."""
    same, steps = result["same_rollouts"], result["steps"]
    theirs, ours = steps["seconds"]["trl"], steps["seconds"]["ours"]
    per_token = steps["seconds_per_1000_tokens"]
    seconds = same["seconds"]
    rounding = same["distance_from_float32"]
    far = f" (from TRL's in float32: TRL {rounding['trl']:.1e}, MASA {rounding['ours']:.1e})" if rounding else ""
    lines = [
        f"## {result['case']}, {result['precision']}, {result['parameters']}",
        "",
        f"{result['date']}. {result['machine']}; {result['threads']} thread(s). {result['versions']}.",
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
        f"| step, per 1,000 tokens rolled out | {per_token['trl']:.3f} | {per_token['ours']:.3f} | "
        f"{per_token['trl'] / per_token['ours']:.2f} |",
        "",
        f"Mean tokens of a rollout: TRL {steps['tokens']['trl']:.1f}, MASA {steps['tokens']['ours']:.1f}.",
        "",
        f"On the same rollouts ({same['live_rows']} of {same['rows']} rows have an advantage): loss "
        f"{same['loss']['trl']:.7f} (TRL), {same['loss']['ours']:.7f} (MASA); gradients differ by "
        f"{same['gradient_gap']:.1e} of their norm{far}. Forward and backward: TRL {seconds['trl']:.3f} s; MASA "
        f"{seconds['ours']:.3f} s, {same['ratio']['median']:.1f} times as fast; {seconds['ours, all rows']:.3f} s "
        f"({same['ratio_all_rows']['median']:.1f} times) where rows without an advantage are kept.",
    ]
    return "\n".join(lines)
