"""Rollouts as rows of the run folder, and a glance at them in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from masa.training.experience import Experience


def rollout_rows(experience: Experience) -> Iterator[dict[str, Any]]:
    """Every rollout of the step, as written to the run folder."""
    for group in experience.groups:
        common = {
            "step": experience.step,
            "problem": group.problem.key,
            "problem_text": group.problem.text,
            "task": group.problem.task,
            "gated": group.is_gated,
            "audited": group.is_audited,
        }
        solution, meta = group.solution, group.meta
        for i, rollout in enumerate(solution.rollouts):
            yield common | {
                "role": "solution",
                "sample": i,
                "text": solution.texts[i],
                "length": rollout.length,
                "finish_reason": rollout.finish_reason.value,
                "correct": solution.correct[i],
                "reward": solution.rewards[i],
                "advantage": solution.advantages[i],
                "hinted": bool(solution.hints[i]),
            }
        for i, rollout in enumerate(meta.rollouts):
            prediction = meta.predictions[i]
            yield common | {
                "role": "meta",
                "sample": i,
                "text": meta.texts[i],
                "length": rollout.length,
                "finish_reason": rollout.finish_reason.value,
                "reward": meta.rewards[i].total if meta.rewards else None,
                "advantage": meta.advantages[i] if meta.advantages else None,
                "prediction": {
                    "pass_rate": prediction.pass_rate,
                    "length": prediction.length,
                    "notions": None if prediction.notions is None else list(prediction.notions),
                },
            }


def show_completions(experience: Experience, every: int) -> None:
    """Print one problem's first solution and first prediction, as text; every so many steps, never for 0."""
    if not every or experience.step % every:
        return
    console = Console(stderr=True)
    group = next((g for g in experience.groups if g.solution.texts), experience.groups[0])
    console.print(Panel(Text(group.problem.text), title=f"step {experience.step}: problem {group.problem.key}"))
    for text, reward in list(zip(group.solution.texts, group.solution.rewards, strict=True))[:1]:
        console.print(Panel(Text(text), title=f"solution (reward {reward:g})"))
    for text in group.meta.texts[:1]:
        reward_text = f" (reward {group.meta.rewards[0].total:.2f})" if group.meta.rewards else ""
        console.print(Panel(Text(text), title=f"prediction{reward_text}"))
