"""What a gate and a cutoff would have saved on a model's answers, and what they would have lost.

Nothing was gated or cut here, so every figure is counted and none estimated. What needs fitting is cross-validated:
problems are split into folds, and each fold is judged by what the others taught. There is neither training nor history,
so the rules rest on self-prediction alone: raw, as the paper has it, or calibrated as predictor `combined` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from masa.awareness import (
    CalibratedRule,
    Cutoff,
    Estimate,
    Evidence,
    GateRule,
    LengthCalibration,
    PaperRule,
    SelfPredictor,
)
from masa.awareness.intervals import clustered_interval
from masa.awareness.predictors.self_calibration import fit_calibration
from masa.evaluation.answers import Answers
from masa.evaluation.log_summary import Share, harmonic
from masa.seeding import Purpose, derive_random

THRESHOLDS = (0.9, 0.7)
"""The calibrated gates skip a problem whose group has zero variance with more than this probability."""
FACTOR = 2.0
"""The paper's limit over the foretold length (arXiv 2510.03259 version 1)."""
QUANTILE = 0.98
"""Share of correct solutions that the calibrated limit means to keep."""
_FOLDS = 10
_LEAST_KNOWN = 30
"""Problems with a prediction, before a calibration is worth fitting."""

CorrectAt = Callable[[int, int, int], bool]
"""(problem, solution, limit): whether the solution would be right, had it been cut after so many tokens."""


@dataclass(frozen=True, slots=True)
class GateFigures:
    """A gate's verdicts against the groups' true variance; shares are of problems."""

    skipped: Share
    precision: Share
    """Zero-variance groups among the skipped."""
    recall: Share
    """Skipped among the zero-variance groups."""
    f1: float | None
    base_rate: Share
    """Zero-variance groups among all: the precision of skipping at random."""
    lost: Share
    """Skipped among the live groups: the learning signal that the gate costs."""
    saved: int
    """Tokens of the skipped groups."""
    saved_share: float
    """Of all solution tokens."""
    net_share: float
    """The same, less the tokens of the predictions."""


@dataclass(frozen=True, slots=True)
class CutoffFigures:
    """Token limits against the solutions as they were without them."""

    limited: Share
    """Problems with a foretold limit below the run's own."""
    false_cut: Share
    """Correct solutions whose answer stands beyond the limit."""
    wrong_cut: Share
    """Incorrect solutions that the limit ends."""
    saved: int
    """Tokens beyond the limits."""
    saved_share: float
    net_share: float


@dataclass(frozen=True, slots=True)
class Together:
    """A gate and a cutoff at once, paid for by the same predictions."""

    saved: int
    saved_share: float
    net_share: float


@dataclass(frozen=True, slots=True)
class Savings:
    """All of them by name; what could not be calibrated is left out."""

    solution_tokens: int
    meta_tokens: int
    perfect_share: float
    """Tokens in zero-variance groups over all solution tokens: no gate can save more."""
    gates: dict[str, GateFigures]
    cutoffs: dict[str, CutoffFigures]
    together: dict[str, Together]


def savings(
    answers: Sequence[Answers], *, min_length: int, max_tokens: int, correct_at: CorrectAt, seed: int = 0
) -> Savings:
    """Judge the paper's rules and the calibrated ones.

    Args:
        answers: at least one problem, each with as many solutions.
        min_length: least limit, in tokens.
        max_tokens: the limit under which the solutions were sampled.
        correct_at: the grader on a solution that is cut.
        seed: names the draw of the folds.
    """
    whole = _Whole(answers, correct_at)
    n = len(answers[0].solutions)
    raw = [SelfPredictor().estimate(Evidence(one.problem, one.predictions)) for one in answers]
    verdicts = {"paper": _verdicts(PaperRule(), raw)}
    calibrated = _calibrated(answers, raw, seed)
    if calibrated is not None:
        for threshold in THRESHOLDS:
            verdicts[f"calibrated {threshold:g}"] = _verdicts(CalibratedRule(n, threshold), calibrated)
    paper = Cutoff(seed, rule="paper", factor=FACTOR, minimum=min_length, maximum=max_tokens)
    limits: dict[str, list[int | None]] = {"paper": [_below(paper.limit(one), max_tokens) for one in raw]}
    fitted = _quantile_limits(answers, raw, min_length, max_tokens, seed)
    if any(limit is not None for limit in fitted):
        limits["calibrated"] = fitted
    pairs = {"paper": ("paper", "paper"), "calibrated": (f"calibrated {THRESHOLDS[0]:g}", "calibrated")}
    return Savings(
        solution_tokens=whole.solution_tokens,
        meta_tokens=whole.meta_tokens,
        perfect_share=whole.share(int(whole.tokens[whole.flat].sum())),
        gates={name: whole.gate(skips) for name, skips in verdicts.items()},
        cutoffs={name: whole.cutoff(found) for name, found in limits.items()},
        together={
            name: whole.together(verdicts[gate], limits[cutoff])
            for name, (gate, cutoff) in pairs.items()
            if gate in verdicts and cutoff in limits
        },
    )


class _Whole:
    """The answers as arrays, one entry a problem."""

    def __init__(self, answers: Sequence[Answers], correct_at: CorrectAt) -> None:
        self.answers = answers
        self.correct_at = correct_at
        self.tokens = np.array([sum(answer.length for answer in one.solutions) for one in answers])
        self.flat = np.array([one.outcome.pass_rate in (0.0, 1.0) for one in answers])
        self.solution_tokens = int(self.tokens.sum())
        self.meta_tokens = sum(one.meta_tokens for one in answers)

    def share(self, tokens: int) -> float:
        return tokens / max(1, self.solution_tokens)

    def gate(self, skips: Sequence[bool]) -> GateFigures:
        skipped = np.array(skips)
        everything = np.ones_like(skipped)
        precision, recall = _share(skipped & self.flat, skipped), _share(skipped & self.flat, self.flat)
        saved = int(self.tokens[skipped].sum())
        return GateFigures(
            skipped=_share(skipped, everything),
            precision=precision,
            recall=recall,
            f1=harmonic(precision.share, recall.share),
            base_rate=_share(self.flat, everything),
            lost=_share(skipped & ~self.flat, ~self.flat),
            saved=saved,
            saved_share=self.share(saved),
            net_share=self.share(saved - self.meta_tokens),
        )

    def cutoff(self, limits: Sequence[int | None]) -> CutoffFigures:
        right, wrong, lost, ended = [], [], [], []
        for index, (one, limit) in enumerate(zip(self.answers, limits, strict=True)):
            cut = [limit is not None and answer.length > limit for answer in one.solutions]
            right.append(sum(answer.correct for answer in one.solutions))
            wrong.append(len(one.solutions) - right[-1])
            ended.append(sum(is_cut and not answer.correct for is_cut, answer in zip(cut, one.solutions, strict=True)))
            lost.append(
                sum(
                    is_cut and answer.correct and not self.correct_at(index, sample, limit or 0)
                    for sample, (is_cut, answer) in enumerate(zip(cut, one.solutions, strict=True))
                )
            )
        saved = int(sum(self._beyond(limits)))
        limited = [limit is not None for limit in limits]
        return CutoffFigures(
            limited=_share(limited, [True] * len(limited)),
            false_cut=_share(lost, right),
            wrong_cut=_share(ended, wrong),
            saved=saved,
            saved_share=self.share(saved),
            net_share=self.share(saved - self.meta_tokens),
        )

    def together(self, skips: Sequence[bool], limits: Sequence[int | None]) -> Together:
        saved = sum(
            int(tokens) if skip else beyond
            for tokens, skip, beyond in zip(self.tokens, skips, self._beyond(limits), strict=True)
        )
        return Together(saved, self.share(saved), self.share(saved - self.meta_tokens))

    def _beyond(self, limits: Sequence[int | None]) -> Iterator[int]:
        """Tokens of each problem's solutions that lie beyond its limit."""
        for one, limit in zip(self.answers, limits, strict=True):
            yield 0 if limit is None else sum(max(0, answer.length - limit) for answer in one.solutions)


def _verdicts(rule: GateRule, estimates: Sequence[Estimate]) -> list[bool]:
    return [rule.skips(estimate) for estimate in estimates]


def _below(limit: int | None, maximum: int) -> int | None:
    """A limit that reaches the run's own is none."""
    return None if limit is None or limit >= maximum else limit


def _folds(count: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """(learnt from, judged), both as indices below `count`; every index is judged once."""
    order = list(range(count))
    derive_random(seed, Purpose.FOLD).shuffle(order)
    parts = min(_FOLDS, count)
    for part in range(parts):
        judged = order[part::parts]
        yield sorted(set(order) - set(judged)), judged


def _calibrated(answers: Sequence[Answers], raw: Sequence[Estimate], seed: int) -> list[Estimate] | None:
    """The estimates with beliefs that the other folds taught; None where too few problems have a prediction."""
    known = [i for i, estimate in enumerate(raw) if estimate.pass_rate is not None]
    if len(known) < _LEAST_KNOWN:
        return None
    said = np.array([raw[i].pass_rate for i in known], dtype=np.float64)
    right = np.array([sum(answer.correct for answer in answers[i].solutions) for i in known], dtype=np.float64)
    rolled = np.array([len(answers[i].solutions) for i in known], dtype=np.float64)
    estimates = list(raw)
    for learnt, judged in _folds(len(known), seed):
        calibration = fit_calibration(said[learnt], right[learnt], rolled[learnt], np.ones(len(learnt)))
        for place in judged:
            belief = calibration.belief(float(said[place]))
            estimates[known[place]] = replace(estimates[known[place]], belief=belief)
    return estimates


def _quantile_limits(
    answers: Sequence[Answers], raw: Sequence[Estimate], min_length: int, max_tokens: int, seed: int
) -> list[int | None]:
    """Limits by the quantile of length over foretold length on the other folds; None while they hold too few ratios."""
    limits: list[int | None] = [None] * len(answers)
    for learnt, judged in _folds(len(answers), seed):
        calibration = LengthCalibration(window=max(50, sum(len(answers[i].solutions) for i in learnt)))
        for i in learnt:
            if length := raw[i].length:
                calibration.observe(length, answers[i].outcome.correct_lengths)
        cutoff = Cutoff(
            seed,
            rule="quantile",
            quantile=QUANTILE,
            minimum=min_length,
            maximum=max_tokens,
            calibration=calibration,
        )
        for i in judged:
            limits[i] = _below(cutoff.limit(raw[i]), max_tokens)
    return limits


def _share(hits: Iterable[Any], counts: Iterable[Any]) -> Share:
    """Hits over counts, one entry a problem each, with an interval that allows for the likeness of its solutions."""
    some, of = [float(hit) for hit in hits], [float(count) for count in counts]
    interval = clustered_interval(some, of, [1.0] * len(some))
    if interval is None:
        return Share(None, None, None, 0)
    return Share(sum(some) / sum(of), interval.low, interval.high, int(sum(of)))
