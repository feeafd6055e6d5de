"""Would a gate or a token limit have paid? The question asked of the rollouts of any trainer."""

from __future__ import annotations

from dataclasses import dataclass

from masa.awareness.gate import Gate
from masa.awareness.gate_rules import CalibratedRule, ExplorationRule
from masa.awareness.predictors.history import HistoryPredictor
from masa.awareness.predictors.posterior import PosteriorPredictor
from masa.evaluation.log_summary import LogSummary, summarise
from masa.evaluation.logged_rollouts import LoggedRollouts
from masa.evaluation.replay import GateReplay, replay_gate
from masa.evaluation.replay_cutoff import CutoffReplay, replay_cutoffs

THRESHOLDS = (0.9, 0.7)
"""The posterior gates skip a group that has zero variance with more than this probability."""
_FALSE_CUTS = 0.02
"""A limit that cuts a larger share of correct answers is not worth naming."""


@dataclass(frozen=True, slots=True)
class LogProbe:
    """All that a log answers."""

    source: str
    summary: LogSummary
    perfect_share: float
    """Tokens in zero-variance groups over all tokens: no gate can save more."""
    gates: dict[str, GateReplay]
    cutoffs: list[CutoffReplay]
    advice: str
    """The figures in words."""


def probe_log(log: LoggedRollouts, *, seed: int = 0) -> LogProbe:
    """Sum up a log and replay the gates and limits on it.

    Args:
        log: the rollouts.
        seed: names the draws of audits, of exempt groups and of the randomised gate.
    """
    summary = summarise(log)
    gates = {"history": replay_gate(log, HistoryPredictor(), Gate(seed, ExplorationRule()))}
    for threshold in THRESHOLDS:
        gate = Gate(seed, CalibratedRule(summary.commonest_group, threshold))
        gates[f"posterior {threshold:g}"] = replay_gate(log, PosteriorPredictor(), gate)
    cutoffs = replay_cutoffs(log, run_seed=seed)
    perfect = summary.whole.zero_variance_tokens / max(summary.whole.tokens, 1)
    return LogProbe(log.source, summary, perfect, gates, cutoffs, _advice(summary, perfect, gates, cutoffs))


def _advice(summary: LogSummary, perfect: float, gates: dict[str, GateReplay], cutoffs: list[CutoffReplay]) -> str:
    sentences = []
    parts = [f"a perfect gate would have saved {percent(perfect)} of the tokens"]
    if summary.returning:
        parts += [_gate_in_words(name, gate) for name, gate in gates.items()]
    sentences.append("; ".join(parts))
    if not summary.returning:
        sentences.append("no problem comes back, so history and posterior have nothing to go by")
    elif summary.visits < 2:
        sentences.append(
            f"problems are visited {summary.visits:.1f} times on average, so history and posterior have hardly "
            f"anything to go by: {percent(summary.returning)} of the groups"
        )
    sentences.append(_cutoff_in_words(cutoffs))
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def _gate_in_words(name: str, gate: GateReplay) -> str:
    name, _, threshold = name.partition(" ")
    name = f"the {name} gate" + (f" at {threshold}" if threshold else "")
    if not gate.candidates:
        return f"{name} nothing, since it was never sure enough to skip"
    words = f"{name} {percent(gate.tokens_saved_share)}, at the cost of {percent(gate.lost.share)} of the live groups"
    low, base = gate.precision.low, gate.base_rate.share
    if low is not None and base is not None and low <= base:
        words += " (not surely more precise than skipping at random)"
    return words


def _cutoff_in_words(cutoffs: list[CutoffReplay]) -> str:
    harmless = [one for one in cutoffs if one.false_cut.high is not None and one.false_cut.high <= _FALSE_CUTS]
    best = max(harmless, key=lambda one: one.tokens_saved, default=None)
    if best is None or not best.tokens_saved:
        return (
            f"no limit tried here saves tokens and surely cuts at most {100 * _FALSE_CUTS:g} % of the correct answers"
        )
    return (
        f"of the limits that surely cut at most {100 * _FALSE_CUTS:g} % of the correct answers, a limit at "
        f"{_limit_in_words(best)} saves most: {percent(best.tokens_saved_share)} of the tokens, with "
        f"{percent(best.false_cut.share)} of the correct answers cut"
    )


def _limit_in_words(cutoff: CutoffReplay) -> str:
    basis = "the median of the problem's own" if cutoff.basis == "problem" else "the median of all"
    times = "the 0.98 quantile of length over" if cutoff.factor is None else f"{cutoff.factor:g} times"
    return f"{times} {basis} earlier correct answers"


def cutoff_name(cutoff: CutoffReplay) -> str:
    """A limit as a few words of a table: own is the problem's, common that of all."""
    whose = "own" if cutoff.basis == "problem" else "common"
    return f"0.98 quantile, {whose} median" if cutoff.factor is None else f"{cutoff.factor:g} x {whose} median"


def percent(share: float | None) -> str:
    """A share as a text, `-` where there is none."""
    if share is None:
        return "-"
    return f"{100 * share:.0f} %" if abs(share) >= 0.0995 or share == 0 else f"{100 * share:.1f} %"
