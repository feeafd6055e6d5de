"""What TRL's trackers, callbacks and completion tables expect of a step, filled in from our experience."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from masa.training.experience import Experience
from masa.training.measures import trl_metrics

_LEARNER_METRICS = {
    "entropy/live": "entropy",
    "clip_share": "clip_ratio/region_mean",
}
"""Our names of what TRL's loss notes of each micro-batch under its own; dropped rows take no part."""
_IMPORTANCE_METRICS = {
    "importance/ratio": "sampling/importance_sampling_ratio/mean",
    "importance/gap": "sampling/sampling_logp_difference/mean",
}
_NAMED_BY_TRANSFORMERS = {"loss", "grad_norm", "learning_rate", "epoch"}


def learner_metrics(noted: Mapping[str, Sequence[float]], batches: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What TRL's loss noted of this step: a value for each micro-batch that was not empty, here their mean.

    Args:
        noted: TRL's lists by name; the step's values are the last ones.
        batches: the step's micro-batches.
    """
    count = sum(len(batch["advantages"]) > 0 for batch in batches)
    of_step = {ours: noted.get(theirs, [])[-count:] for ours, theirs in _LEARNER_METRICS.items() if count}
    return {name: sum(values) / len(values) for name, values in of_step.items() if values}


def importance_metrics(noted: MutableMapping[str, Any], measured: Mapping[str, float]) -> dict[str, float]:
    """Adds what importance correction measured in this step to TRL's lists; gives what we have our own names for."""
    for name, value in measured.items():
        noted[name].append(value)
    return {ours: measured[theirs] for ours, theirs in _IMPORTANCE_METRICS.items() if theirs in measured}


def note_metrics(
    noted: MutableMapping[str, Any], experience: Experience, metrics: Mapping[str, Any], tokens_seen: int
) -> None:
    """Adds TRL's own metric names to TRL's lists, and ours beside them."""
    for name, value in metrics.items():
        if isinstance(value, (int, float)) and name not in _NAMED_BY_TRANSFORMERS:
            noted[name].append(float(value))
    for name, value in trl_metrics(experience).items():
        noted[name].append(value)
    noted["num_tokens"] = [tokens_seen]


def fill_completions(logs: Mapping[str, Any], experience: Experience) -> None:
    """Fills the columns of TRL's completion table."""
    for column in ("prompt", "completion", "advantages", "rewards", "extra"):
        logs[column].clear()
    for group in experience.groups:
        logs["prompt"].extend(group.solution.prompts)
        logs["completion"].extend(group.solution.texts)
        logs["advantages"].extend(group.solution.advantages)
    for name, scores in experience.reward_functions.items():
        logs["rewards"][name].extend(scores)
    for name, values in experience.logged.items():
        logs["extra"][name].extend(values)


def note_reward_metrics(noted: MutableMapping[str, Any], scalars: Sequence[Mapping[str, Sequence[float]]]) -> None:
    """Adds what reward functions logged themselves by TRL's `log_metric`: values by metric, any number, a process."""
    for name in sorted({name for found in scalars for name in found}):
        values = [value for found in scalars for value in found.get(name, ())]
        noted[name].append(sum(values) / len(values))
