"""What `masa compare` is asked to do: arms x seeds, each a job of `masa train`, checked before any work."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masa.cli.data_source import DEFAULT_CONFIG, read_yaml
from masa.cli.job import DEFAULT_PRESET, Job, assign, build, of_default_preset
from masa.errors import UserError, unknown_key_message
from masa.training.presets import PRESETS

DEFAULT_SEEDS = (0, 1, 2)
DEFAULT_BASELINE = "grpo"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EVALUATIONS = 10
_ALIKE = ("num_generations", "max_completion_length", "temperature", "top_p", "top_k", "loss_denominator")
_PER_RUN = ("seed", "output", "output_dir", "data_seed")


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One arm with one seed."""

    arm: str
    seed: int
    values: Mapping[str, Any]
    """The config of its `masa train`, all but the output."""
    settings: Mapping[str, Any]
    """The same, resolved, in JSON's types."""

    @property
    def name(self) -> str:
        """Of its folder, log and result."""
        return f"{self.arm}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All runs, all arms of the first seed first, so that whole sets are there early."""

    runs: Sequence[PlannedRun]
    arms: Sequence[str]
    baseline: str
    notes: Sequence[str]
    """What a reader of the table must know of the conditions."""


def read_plan(
    path: Path | None,
    assignments: Sequence[str],
    *,
    arms: str | None = None,
    seeds: str | None = None,
    baseline: str | None = None,
    budget: Mapping[str, float | None] | None = None,
) -> Plan:
    """The plan of a config (default: the bundled run), `--set key=value` and options, which win over the config's keys.

    The config may have `arms` (arm to its own settings, or a list of presets), `seeds` and `baseline`. An arm's
    settings are the config's without `preset`, the preset of the arm's name, and the arm's own.

    Args:
        path: config file.
        assignments: of `--set`; `arms.NAME.KEY=VALUE` reaches an arm.
        arms: names, separated by commas.
        seeds: whole numbers, separated by commas.
        baseline: the arm that the others are held against.
        budget: `max_tokens` and `max_minutes` of each run; None leaves the config's.

    Raises:
        UserError: for unknown names, faulty values and unequal conditions.
    """
    where = str(path or DEFAULT_CONFIG)
    values = read_yaml(path or DEFAULT_CONFIG)
    for assignment in assignments:
        assign(values, assignment)
    values |= {name: value for name, value in (budget or {}).items() if value is not None}
    own = _own_settings(values.pop("arms", None), where)
    file_seeds, file_baseline = values.pop("seeds", None), values.pop("baseline", None)
    preset = str(values.pop("preset", DEFAULT_PRESET))
    names = _arm_names(arms, own, preset)
    chosen = _seeds(next(value for value in (seeds, file_seeds, DEFAULT_SEEDS) if value is not None))
    held_against = str(baseline or file_baseline or DEFAULT_BASELINE)
    if held_against not in names:
        raise UserError(
            f"baseline {held_against!r} is not among the arms ({', '.join(names)}): add it to --arms, "
            "or name one of them with --baseline"
        )
    notes = [_settle_evaluations(values, where)]
    assigned = {assignment.partition("=")[0].partition(".")[0] for assignment in assignments}
    if path is None:
        own[DEFAULT_PRESET] = {n: values.pop(n) for n in of_default_preset(values, assigned)} | own.get(
            DEFAULT_PRESET, {}
        )
    jobs: dict[str, Job] = {}
    runs = []
    for seed in chosen:
        for name in names:
            merged = values | {"preset": name} | own.get(name, {}) | {"seed": seed}
            merged.pop("output", None)
            try:
                job = build(copy.deepcopy(merged) | {"output": f"runs/{name}-{seed}"}, f"{where}, arm {name}", assigned)
            except UserError as error:
                raise error if f"arm {name}" in str(error) else UserError(f"arm {name}: {error}") from None
            jobs.setdefault(name, job)
            runs.append(PlannedRun(name, seed, merged, _plain_settings(job)))
    notes += _check_conditions(jobs, held_against, own)
    shared = sorted(values.keys() & PRESETS[DEFAULT_BASELINE].keys())
    if shared:
        listed = ", ".join(f"{key} {values[key]}" for key in shared)
        notes.append(f"From the config, in every arm that has no value of its own, in place of its preset's: {listed}.")
    return Plan(runs, names, held_against, [note for note in notes if note])


def _own_settings(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """The file's `arms`: each arm's own settings."""
    if value is None:
        return {}
    if isinstance(value, list):
        value = dict.fromkeys(value)
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: arms must map each arm to its settings, or list presets, got {value!r}")
    own = {}
    for name, settings in value.items():
        if settings is not None and not isinstance(settings, Mapping):
            raise UserError(f"{where}: arms.{name} must be a mapping of settings, got {settings!r}")
        own[str(name)] = {str(key): item for key, item in (settings or {}).items()}
        if fixed := [key for key in _PER_RUN if key in own[str(name)]]:
            raise UserError(
                f"{where}: arms.{name} sets {fixed[0]}: every arm runs with the same seeds, in its own folder"
            )
    return own


def _arm_names(option: str | None, own: Mapping[str, Mapping[str, Any]], preset: str) -> list[str]:
    if option is not None:
        names = [name.strip() for name in option.split(",") if name.strip()]
    else:
        names = list(own) or list(dict.fromkeys((DEFAULT_BASELINE, preset)))
    if not names:
        raise UserError("--arms names no arm: give presets, for example --arms grpo,masa-efficient")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"arm {name!r} is named twice: name each arm once")
        if name not in PRESETS and name not in own:
            raise UserError(unknown_key_message("arm", name, [*PRESETS, *own], where="--arms"))
        if name not in PRESETS and "preset" not in own[name]:
            raise UserError(
                f"arms.{name} has no preset, and its name is none: add `preset`, one of {', '.join(PRESETS)}"
            )
        if not _NAME.fullmatch(name):
            raise UserError(f"arm {name!r} cannot name a file: use letters, digits, dots, dashes and underscores")
    return names


def _seeds(value: Any) -> list[int]:
    items = list(value) if isinstance(value, list | tuple) else str(value).split(",")
    seeds = []
    for item in items:
        text = str(item).strip()
        if isinstance(item, bool) or not text.isdecimal():
            raise UserError(f"seeds: {text!r} is no seed: give whole numbers from 0, for example --seeds 0,1,2")
        seeds.append(int(text))
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise UserError(f"seed {seed} is named twice: the same run twice says nothing new, name each seed once")
    if not seeds:
        raise UserError("seeds is empty: give at least one, for example --seeds 0,1,2")
    return seeds


def _settle_evaluations(values: dict[str, Any], where: str) -> str:
    """A curve needs evaluations on the way: ten where the config leaves `heldout.every` open."""
    heldout = values.get("heldout")
    if not heldout:
        raise UserError(f"{where}: arms are compared on held-out problems; add `heldout` with their `data`")
    settings = dict(heldout) if isinstance(heldout, Mapping) and "source" not in heldout else {"data": heldout}
    if not settings.get("data"):
        raise UserError(f"{where}: heldout has no data: name the problems that arms are compared on")
    values["heldout"] = settings
    if "every" in settings:
        return ""
    steps = values.get("max_steps")
    settings["every"] = max(1, steps // _EVALUATIONS) if isinstance(steps, int) and steps > 0 else _EVALUATIONS
    often = "every step" if settings["every"] == 1 else f"every {settings['every']} steps"
    return f"Held-out problems are evaluated {often} (heldout.every sets it)."


def _check_conditions(jobs: Mapping[str, Job], baseline: str, own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Arms differ in what they learn from only where they say so themselves; that is noted."""
    base = _conditions(jobs[baseline])
    notes = []
    for name, job in jobs.items():
        for key, value in _conditions(job).items():
            if value == base[key]:
                continue
            if key not in own.get(name, {}) and key not in own.get(baseline, {}):
                raise UserError(
                    f"arm {name} has {key} {value!r}, the baseline {baseline} {base[key]!r}: arms are compared under "
                    f"equal conditions; set {key} for all of them, or under arms.{name} if it is what you compare"
                )
            notes.append(
                f"Unequal conditions, as asked for: {key} is {value!r} in {name}, {base[key]!r} in {baseline}."
            )
    return notes


def _conditions(job: Job) -> dict[str, Any]:
    """What arms learn from, what held-out accuracy is measured with, and what a step is divided by."""
    context = job.context()
    return {
        **{key: context[key] for key in ("model", "data", "heldout", "prompt", "system", "reward")},
        "problems_per_step": job.args.problems_a_step,
        **{key: getattr(job.args, key) for key in _ALIKE},
    }


def _plain_settings(job: Job) -> dict[str, Any]:
    budget = {"max_tokens": job.max_tokens, "max_minutes": job.max_minutes}
    settings = job.context() | budget | job.args.resolved()
    settings.pop("output_dir", None)
    found = json.loads(json.dumps(settings, default=str))
    assert isinstance(found, dict)
    return found
