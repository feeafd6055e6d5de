"""What `masa train` is asked to do: a YAML file, options and `--set`, put together and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from masa.cli.data_source import (
    DEFAULT_CONFIG,
    DataSource,
    read_sources,
    read_yaml,
    refuse_wrong_types,
    set_fields,
)
from masa.errors import UserError, unknown_key_message
from masa.training.config import MASAConfig
from masa.training.presets import PRESETS
from masa.yaml_values import read_plain_yaml

DEFAULT_PRESET = "masa-efficient"
"""Of the bundled config."""


@dataclass(frozen=True, slots=True)
class HeldOutSettings:
    """The evaluation before and after training."""

    data: list[DataSource] = field(default_factory=list)
    solutions: int = 8
    predictions: int = 8
    every: int = 0
    """Also evaluate every so many steps; 0: only before and after."""
    transfer: list[DataSource] = field(default_factory=list)
    """Problems of tasks that are not trained on: measured beside, and no part of the accuracy."""

    def as_plain(self) -> dict[str, Any]:
        """As plain values, without what is not used."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("data", "transfer"):
            values[name] = [set_fields(source) for source in values[name]]
        return {name: value for name, value in values.items() if value or name != "transfer"}


@dataclass(frozen=True, slots=True)
class Job:
    """One training run."""

    model: str
    data: list[DataSource]
    heldout: HeldOutSettings
    prompt: str
    """Template of the solution prompt; `{problem}` stands for the problem's text."""
    system: str | None
    reward: str | None
    lora: dict[str, Any] | None
    """Settings of peft's `LoraConfig`; None trains all weights."""
    max_tokens: int | None
    max_minutes: float | None
    args: MASAConfig

    def context(self) -> dict[str, Any]:
        """Everything beside the trainer's settings, as plain values."""
        return {
            "model": self.model,
            "data": [set_fields(source) for source in self.data],
            "heldout": self.heldout.as_plain(),
            "prompt": self.prompt,
            "system": self.system,
            "reward": self.reward,
            "lora": self.lora,
        }

    @property
    def budget(self) -> dict[str, float]:
        """The limits that end it early, where there are any."""
        limits = {"max_tokens": self.max_tokens, "max_minutes": self.max_minutes}
        return {name: value for name, value in limits.items() if value is not None}

    def as_yaml(self) -> str:
        """The resolved job."""
        budget = {"max_tokens": self.max_tokens, "max_minutes": self.max_minutes}
        return yaml.safe_dump(self.context() | budget | self.args.resolved(), sort_keys=False, allow_unicode=True)


OWN_KEYS = ("model", "data", "heldout", "prompt", "system", "reward", "lora", "output", "max_tokens", "max_minutes")
"""Keys of a config file that are no settings of the trainer."""


def read_job(path: Path | None, options: Mapping[str, Any], assignments: Sequence[str]) -> Job:
    """The job of a config file (default: the bundled run), options and `--set key=value`, later ones winning.

    Raises:
        UserError: for a file that cannot be read, unknown keys (the nearest known one is named) or contradictions.
    """
    values = read_yaml(path or DEFAULT_CONFIG)
    if "arms" in values:
        raise UserError(f"{path} has arms: give it to masa compare, or masa train a config of one run")
    if path is None and "data" in options:
        values.pop("heldout")  # the default run's own problems say nothing about other data
    for name, value in options.items():
        values[name] = str(value) if isinstance(value, Path) else value
    for assignment in assignments:
        assign(values, assignment)
    assigned = {a.partition("=")[0].partition(".")[0] for a in assignments}
    if path is None and values["preset"] != DEFAULT_PRESET:
        for name in of_default_preset(values, {*options, *assigned}):
            values.pop(name)
    return build(values, str(path or DEFAULT_CONFIG), assigned)


def of_default_preset(values: Mapping[str, Any], given: Set[str]) -> list[str]:
    """What the bundled config decides in its own preset's place; another preset keeps its own values.

    Args:
        values: the bundled config's.
        given: keys that the user gave a value of his own.
    """
    return sorted(values.keys() & PRESETS[DEFAULT_PRESET].keys() - given)


def assign(values: dict[str, Any], assignment: str, option: str = "--set") -> None:
    """Puts a `key=value` (dotted keys reach into mappings) into the values; `option` is for errors.

    Raises:
        UserError: for anything else.
    """
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise UserError(f"{option} {assignment}: write key=value")
    try:
        value = read_plain_yaml(text)
    except ValueError:
        value = text
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"{option} {assignment}: {parent} is not a mapping")
        place = inner
    place[last] = _number(value)


def build(values: dict[str, Any], where: str, assigned: Set[str] = frozenset()) -> Job:
    """The job of these values, which are used up; `assigned` are the keys that `--set` brought.

    Raises:
        UserError: for unknown keys (the nearest known one is named) or contradictions.
    """
    known = [*OWN_KEYS, *(f.name for f in fields(MASAConfig) if f.init)]
    unknown = [key for key in values if key not in known]
    if unknown:
        places = {key: "--set" if key in assigned else where for key in unknown}
        raise UserError("; ".join(unknown_key_message("setting", key, known, where=places[key]) for key in unknown))
    own = {key: values.pop(key) for key in OWN_KEYS if key in values}
    refuse_wrong_types(own, Job, where)
    if "data" not in own:
        raise UserError(f"{where}: no data; give --data or a `data` key")
    if "output" in own:
        values["output_dir"] = own["output"]
    values.setdefault("output_dir", f"runs/{values.get('preset', 'masa')}")
    for name, default in (("report_to", "none"), ("logging_steps", 1), ("disable_tqdm", True)):
        values.setdefault(name, default)
    for name in ("save_strategy", "eval_strategy", "logging_strategy"):
        if values.get(name) is False:
            values[name] = "no"  # which is what YAML 1.1 read as false
    prompt = own.get("prompt", "{problem}")
    if prompt != "{problem}":  # what the problem is, as against what is asked of a solver
        values.setdefault("problem_column", "problem")
    if "{problem}" not in prompt:
        raise UserError(f"{where}: prompt must contain {{problem}}, got {prompt!r}")
    return Job(
        model=str(own.get("model", "bundled")),
        data=read_sources(own["data"], "data"),
        heldout=_heldout(own.get("heldout"), where),
        prompt=prompt,
        system=own.get("system"),
        reward=own.get("reward"),
        lora=own.get("lora"),
        max_tokens=own.get("max_tokens"),
        max_minutes=own.get("max_minutes"),
        args=MASAConfig.from_dict({key: _number(value) for key, value in values.items()}),
    )


def _heldout(value: Any, where: str) -> HeldOutSettings:
    if value is None:
        return HeldOutSettings()
    if not isinstance(value, Mapping):
        return HeldOutSettings(data=read_sources(value, "heldout"))
    settings = dict(value)
    known = [f.name for f in fields(HeldOutSettings)]
    for key in settings:
        if key not in known:
            raise UserError(unknown_key_message("setting of heldout", key, known, where=where))
    sources = ("data", "transfer")
    refuse_wrong_types({key: settings[key] for key in settings if key not in sources}, HeldOutSettings, "heldout")
    for name, least in (("solutions", 1), ("predictions", 0), ("every", 0)):
        if settings.get(name, least) < least:
            raise UserError(f"heldout.{name} is {settings[name]}: it must be at least {least}")
    named = {name: read_sources(settings.get(name, []), f"heldout.{name}") for name in sources}
    return HeldOutSettings(**settings | named)


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value) if "e" in value.lower() else value
        except ValueError:
            return value
    return value
