"""How `masa solve` and `masa eval --policy adaptive` spend tokens: from options to a strategy and its solver."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from masa.awareness import Cutoff, CutoffRule, LengthCalibration
from masa.cli.loading import NamedModel, Policy
from masa.cli.measuring import Measuring
from masa.errors import UserError, unknown_key_message
from masa.evaluation.answers import EvaluationSet
from masa.evaluation.savings import FACTOR
from masa.runs.answers import read_answers
from masa.runs.jsonlines import differing
from masa.solving import (
    AdaptiveConsistency,
    Foretelling,
    GradedVotes,
    LearnedStopping,
    Solver,
    StoppingRule,
    StopReason,
    Strategy,
    learn_stopping,
    make_strategy,
)
from masa.solving.stopping import Posterior
from masa.solving.strategy import PREDICTIONS, SAMPLES, parts_of
from masa.solving.worth import LEAST_GAIN

NO_CUTOFF = "none"
LEARNED = "learned"
_SAMPLED_BY = ("weights", "temperature", "top_p", "max_tokens")
WHY = {
    StopReason.SETTLED: "the vote was settled",
    StopReason.DECIDED: "the samples left could not have changed the answer",
    StopReason.FORETOLD: "more samples were not worth it by what was foretold",
    StopReason.SAMPLES: "the most samples were drawn",
    StopReason.BUDGET: "the budget was spent",
}


@dataclass(frozen=True, slots=True)
class Spending:
    """How tokens are spent; None is the default of a strategy that has the part.

    Raises:
        UserError: for a value out of range, or one of a part that the strategy does not have.
    """

    strategy: str = "both"
    samples: int = SAMPLES
    budget: int | None = None
    threshold: float | None = None
    posterior: str | None = None
    predictions: int | None = None
    cutoff: str | None = None
    cutoff_factor: float | None = None
    hints: bool = False
    learn_from: Path | None = None
    """Folder of a model's graded answers."""
    least_gain: float | None = None

    def __post_init__(self) -> None:
        stops, foretells = parts_of(self.strategy)
        learns = self.strategy == LEARNED
        least = {"samples": self.samples, "budget": self.budget, "predictions": self.predictions}
        for name, value in least.items():
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: it must be at least 1")
        parts = dict.fromkeys(("threshold", "posterior"), stops and not learns)
        parts |= dict.fromkeys(("learn_from", "least_gain"), learns)
        parts |= dict.fromkeys(("predictions", "cutoff", "cutoff_factor", "hints"), foretells)
        for name, is_there in parts.items():
            value = getattr(self, name)
            if not is_there and value is not None and value is not False:
                raise UserError(f"--{name.replace('_', '-')}: strategy {self.strategy} does not use it; leave it out")
        if learns and self.learn_from is None:
            raise UserError(
                "strategy learned learns from graded answers of the same model: name their folder with --learn-from "
                f"(masa eval MODEL --n {self.samples} makes one)"
            )
        if self.least_gain is not None and not 0 <= self.least_gain < 1:
            raise UserError(f"--least-gain {self.least_gain:g}: it must be at least 0 and below 1")
        rules = (*get_args(CutoffRule), NO_CUTOFF)
        if self.cutoff is not None and self.cutoff not in rules:
            raise UserError(unknown_key_message("cutoff rule", self.cutoff, rules, where="--cutoff"))
        if self.cutoff_factor is not None and self.cutoff not in (None, "paper", "median"):
            raise UserError(f"--cutoff-factor: cutoff {self.cutoff} has no factor; leave it out")

    @property
    def m(self) -> int:
        """Predictions a question."""
        return (self.predictions or PREDICTIONS) if parts_of(self.strategy)[1] else 0

    def make(self, measuring: Measuring) -> Strategy:
        """The strategy.

        Raises:
            UserError: for a value out of range, or several samples that could not differ.
        """
        if measuring.requests.temperature == 0 and self.samples > 1:
            raise UserError("--temperature 0 gives the same answer each time, which is no vote: ask for one sample")
        try:
            return make_strategy(
                self.strategy,
                samples=self.samples,
                stopping=self._stopping(measuring),
                foretelling=lambda: Foretelling(self.m, cutoff=self._cutoff(measuring), hints=self.hints),
            )
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from None

    def settings(self, strategy: Strategy) -> dict[str, Any]:
        """All that the samples' number depends on, as plain values; `strategy` as `make` gave it."""
        cutoff = None if strategy.foretelling is None else strategy.foretelling.cutoff
        rule = strategy.stopping
        return {
            "strategy": self.strategy,
            "samples": self.samples,
            "budget": self.budget,
            "threshold": rule.threshold if isinstance(rule, AdaptiveConsistency) else None,
            "posterior": rule.posterior if isinstance(rule, AdaptiveConsistency) else None,
            "cutoff": None if cutoff is None else {"rule": cutoff.rule, "factor": cutoff.factor, "ratio": cutoff.ratio},
            "hints": self.hints,
        } | ({"least_gain": rule.least_gain, "rule": rule.digest} if isinstance(rule, LearnedStopping) else {})

    def _stopping(self, measuring: Measuring) -> StoppingRule:
        if self.learn_from is not None:
            problems = graded_votes(self.learn_from, measuring, self.samples)
            return learn_stopping(
                problems, self.samples, least_gain=LEAST_GAIN if self.least_gain is None else self.least_gain
            )
        stopping = AdaptiveConsistency()
        if self.threshold is not None:
            stopping = replace(stopping, threshold=self.threshold)
        if self.posterior is not None:
            stopping = replace(stopping, posterior=cast(Posterior, self.posterior))
        return stopping

    def _cutoff(self, measuring: Measuring) -> Cutoff | None:
        if self.cutoff == NO_CUTOFF:
            return None
        calibration = length_calibration(measuring.model)
        is_calibrated = calibration is not None and calibration.n >= calibration.least
        rule = self.cutoff or ("quantile" if is_calibrated and self.cutoff_factor is None else "paper")
        if rule != "paper" and not is_calibrated:
            raise UserError(
                f"--cutoff {rule}: {measuring.model.name} comes with no lengths to calibrate by (a run's checkpoint "
                "holds them, of runs with a cutoff); use --cutoff paper"
            )
        return Cutoff(
            measuring.requests.seed,
            rule=cast(CutoffRule, rule),
            factor=FACTOR if self.cutoff_factor is None else self.cutoff_factor,
            minimum=measuring.min_length,
            maximum=measuring.requests.max_tokens,
            calibration=calibration,
        )


def graded_votes(path: Path, measuring: Measuring, samples: int) -> list[GradedVotes]:
    """What `masa eval` or `masa probe` left of a model's answers, a problem each.

    Raises:
        UserError: if the folder holds none, too few a problem, or those of other weights, prompts or sampling.
    """
    there, rows = read_answers(path)
    if there.get("command") not in ("eval", "probe"):
        raise UserError(f"--learn-from {path} holds no answers of masa eval (with --policy plain) or masa probe")
    own = {name: value for name, value in measuring.settings().items() if name in _SAMPLED_BY}
    if changed := differing({name: there.get(name) for name in own}, own):
        raise UserError(f"--learn-from {path}: its answers were sampled otherwise ({'; '.join(changed)})")
    asked = {(one["prompt"], one["system"]) for one in there["data"].values()}
    for one in measuring.sets:
        if (measuring.prompt_of(one), measuring.system_of(one)) not in asked:
            raise UserError(f"--learn-from {path}: its answers were asked for by another prompt than {one.name}")
    votes: defaultdict[tuple[str, int], list[tuple[str | None, bool]]] = defaultdict(list)
    for row in rows:
        if row["role"] == "solution":
            votes[row["data"], row["problem"]].append((row["extracted"], row["correct"]))
    fewest = min(map(len, votes.values()), default=0)
    if fewest < samples:
        raise UserError(
            f"--learn-from {path} has {fewest} answers a problem: make it with masa eval --n {samples}, or ask for as "
            "many samples at most"
        )
    if not any(answer is not None for pairs in votes.values() for answer, _ in pairs):
        raise UserError(f"--learn-from {path}: none of its samples states an answer, so that there was no vote")
    return [GradedVotes(*map(tuple, zip(*pairs, strict=True))) for pairs in votes.values()]


def length_calibration(model: NamedModel) -> LengthCalibration | None:
    """The ratios of true to foretold lengths that a model's own run ended with; None where there are none.

    Of a checkpoint they are its own, of a run's final model those of its last checkpoint.
    """
    from masa.training.checkpoint import STATE_FILE, latest

    path = Path(model.path)
    if not model.settings or not path.is_dir():
        return None
    folder = path if (path / STATE_FILE).exists() else latest(path.parent)
    if folder is None:
        return None
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8")).get("cutoff")
        calibration = LengthCalibration()
        calibration.load_state_dict(state["calibration"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # of a run without a cutoff, or an older one
        return None
    return calibration


def make_solver(data: EvaluationSet, policy: Policy, strategy: Strategy) -> Solver:
    """What answers the problems of a set."""
    return Solver(
        policy.engine,
        data.sampler.prompts,
        data.sampler.requests,
        policy.decode,
        strategy,
        min_length=data.min_length,
        positions=policy.positions,
    )
