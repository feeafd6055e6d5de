"""Does a model know what it can do? Its predictions against its own solutions, and what they would be worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.evaluation.answers import Answers
from masa.evaluation.foresight import Foresight, foresight
from masa.evaluation.log_probe import percent
from masa.evaluation.savings import CorrectAt, Savings, savings

_FEW_VALID = 0.5
_WHOSE = {"paper": "paper's", "calibrated": "calibrated"}


@dataclass(frozen=True, slots=True)
class ModelProbe:
    """All that a probe answers."""

    problems: int
    solutions: int
    """A problem."""
    predictions: int
    """A problem."""
    foresight: Foresight
    savings: Savings
    advice: str
    """The figures in words."""


def probe_model(
    answers: Sequence[Answers], *, min_length: int, max_tokens: int, correct_at: CorrectAt, seed: int = 0
) -> ModelProbe:
    """Sum up a model's solutions and predictions.

    Args:
        answers: of every problem, with predictions.
        min_length: least foretold length and least limit, in tokens.
        max_tokens: limit under which the solutions were sampled.
        correct_at: whether a solution that is cut at a limit would be right.
        seed: of the folds of the cross-validation.

    Raises:
        ValueError: without problems.
    """
    if not answers:
        raise ValueError("a probe needs at least one problem")
    seen = foresight(answers)
    worth = savings(answers, min_length=min_length, max_tokens=max_tokens, correct_at=correct_at, seed=seed)
    return ModelProbe(
        problems=len(answers),
        solutions=len(answers[0].solutions),
        predictions=len(answers[0].predictions),
        foresight=seen,
        savings=worth,
        advice=" ".join([*_knowledge(seen), *_worth(worth)]),
    )


def _knowledge(seen: Foresight) -> list[str]:
    sentences = []
    if not seen.valid_share:
        return ["Not one prediction could be read in full: the model must be taught their form first (warm_start)."]
    if seen.valid_share < _FEW_VALID:
        sentences.append(
            f"Only {percent(seen.valid_share)} of the predictions could be read in full: the model must be taught "
            "their form first (warm_start)."
        )
    found = seen.pass_rate_spearman
    if found.value is None:
        sentences.append("It foretells the same pass rate of every problem, or all have the same: nothing to compare.")
    elif found.low is not None and found.low > 0:
        sentences.append(
            f"It tells problems that it solves from those that it does not: rank correlation {found.value:.2f} "
            f"({found.low:.2f}..{found.high:.2f})."
        )
    else:
        sentences.append(
            f"It does not surely tell problems that it solves from others (rank correlation {found.value:.2f})."
        )
    if seen.brier is not None and seen.brier > seen.brier_constant:
        sentences.append(
            f"Taken at its word it is worse than a constant: Brier score {seen.brier:.3f} against "
            f"{seen.brier_constant:.3f} of always saying {percent(seen.pass_rate)}."
        )
    return sentences


def _worth(worth: Savings) -> list[str]:
    cost = worth.meta_tokens / max(1, worth.solution_tokens)
    sentences = [
        f"The predictions cost {percent(cost)} of the solutions' tokens; a perfect gate would save "
        f"{percent(worth.perfect_share)} of these."
    ]
    sentences.append(_best_gate(worth))
    name, limit = max(worth.cutoffs.items(), key=lambda pair: pair[1].saved)
    if limit.limited.share:
        sentences.append(
            f"Of the token limits the {_WHOSE[name]} one saves most: {percent(limit.saved_share)}, with "
            f"{percent(limit.false_cut.share)} of the right answers cut."
        )
    if worth.together and max(pair.net_share for pair in worth.together.values()) <= 0:
        sentences.append("Gate and cutoff together do not pay for the predictions: ask for fewer or shorter ones.")
    return sentences


def _best_gate(worth: Savings) -> str:
    """The one that saves most of those that are surely better than skipping at random, if there is one."""
    skipping = {name: gate for name, gate in worth.gates.items() if gate.skipped.share}
    if not skipping:
        return "No gate tried here is sure enough of any problem to skip it."
    better = {name: gate for name, gate in skipping.items() if (gate.precision.low or 0) > (gate.base_rate.share or 0)}
    name, gate = max((better or skipping).items(), key=lambda pair: pair[1].saved)
    threshold = name.partition(" ")[2]
    words = (
        f"the {_WHOSE[name.partition(' ')[0]]} gate{f' at {threshold}' if threshold else ''} saves most: "
        f"{percent(gate.saved_share)}, {percent(gate.net_share)} net of the predictions, with "
        f"{percent(gate.precision.share)} precision (base rate {percent(gate.base_rate.share)}) and "
        f"{percent(gate.lost.share)} of the live groups lost."
    )
    if better:
        return f"Of the gates that surely do better than skipping at random {words}"
    return f"No gate surely does better than skipping at random; {words}"
