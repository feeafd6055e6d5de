"""What the plug-in can be told: the keys under `data.masa` of verl's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from masa.awareness import RewardOptions, resolve_template
from masa.awareness.rewards import LengthReward
from masa.checks import wrong_types
from masa.errors import UserError, unknown_key_message


@dataclass(frozen=True, slots=True)
class Settings:
    """Values of `data.masa`; the defaults are those of the preset `masa`.

    They stand under `data` because that is the one part of verl's configuration that data set, reward manager and
    trainer all get to see.
    """

    template: str = "math"
    """Meta prompt: a name in `masa.awareness.TEMPLATES` or a text with `{problem}`."""
    min_length: int = 128
    """Least number of tokens that may be foretold; the most is `data.max_response_length`."""
    predictions: int | None = None
    """M, meta rollouts a problem; None: as many as solutions (`actor_rollout_ref.rollout.n`)."""
    problem_key: str | None = None
    """Where the bare question stands in a row, for example `extra_info.question`; None: the last user message."""
    reward_manager: str = "naive"
    """verl's reward manager for the solutions."""
    correctness: str | None = None
    """Which of its extra values says what is correct; None: `acc` where there is one, else the score."""
    correct_threshold: float = 1.0
    """A solution with at least this value is correct."""
    base: float = 0.01
    """b of the difficulty reward."""
    length_reward: LengthReward = "range"
    """`range` or `log-ratio`."""

    def __post_init__(self) -> None:
        if self.predictions is not None and self.predictions < 1:
            raise UserError(f"data.masa.predictions must be at least 1, got {self.predictions}")
        try:
            resolve_template(self.template)
            self.reward_options()
        except ValueError as error:
            raise UserError(f"data.masa: {error}") from None

    @classmethod
    def from_config(cls, data_config: Mapping[str, Any]) -> Settings:
        """The settings of verl's `data` section.

        Raises:
            UserError: for an unknown key, naming the nearest one, or a value that does not suit its key.
        """
        values = dict(data_config.get("masa") or {})
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UserError(unknown_key_message("setting", str(name), known, where="data.masa"))
        if wrong := wrong_types(values, cls):
            raise UserError("data.masa: " + "; ".join(wrong))
        settings = cls(**values)
        longest = data_config["max_response_length"]
        if not 1 <= settings.min_length <= longest:
            raise UserError(
                f"data.masa.min_length is {settings.min_length}: it must lie between 1 and data.max_response_length, "
                f"{longest}"
            )
        return settings

    def reward_options(self) -> RewardOptions:
        """The forms of the meta reward's components."""
        return RewardOptions(base=self.base, length=self.length_reward)
