"""What a gate would have done to rollouts that are in a log, step by step, with only what it would have seen.

The log holds the outcome of every group, the run with the gate would not: a group that the gate skips is withheld from
its predictor, unless the audit's draw has it rolled out. The verdicts are then judged by all outcomes of the log.

What no replay can tell is how the policy itself would have fared with other groups in its updates: the figures are
those of a gate that runs beside the logged training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from masa.awareness.gate import Gate
from masa.awareness.predictors.base import Evidence, Observation, Predictor
from masa.evaluation.log_summary import Share, harmonic, share_by_problem
from masa.evaluation.logged_rollouts import LoggedRollouts
from masa.records import Outcome, Problem


@dataclass(frozen=True, slots=True)
class GateReplay:
    """A gate's verdicts on a log. A *candidate* is a group that it would skip but for an audit."""

    known: int
    """Groups of whose problem the predictor had something to say."""
    candidates: int
    skipped: int
    audited: int
    """Candidates rolled out all the same."""
    precision: Share
    """Zero-variance groups among the candidates."""
    recall: Share
    """Candidates among the zero-variance groups."""
    f1: float | None
    base_rate: Share
    """Zero-variance groups among all: the precision of skipping at random."""
    lost: Share
    """Skipped groups among the live ones: the learning signal that the gate costs."""
    tokens_saved: int
    """Tokens of the skipped groups; audited ones are not among them."""
    tokens_saved_share: float
    """Of all tokens of the log."""


def replay_gate(log: LoggedRollouts, predictor: Predictor, gate: Gate) -> GateReplay:
    """Run a predictor and a gate, both fresh, over a log as the trainer runs them over a training."""
    evidence_of = [Evidence(Problem(key, "", "")) for key in range(int(log.problems.max()) + 1)]
    keys, starts = log.problems.tolist(), log.starts.tolist()
    correct, lengths = log.correct.tolist(), log.lengths.tolist()
    flat, tokens = log.zero_variance.tolist(), log.tokens.tolist()
    texts = [("",) * size for size in range(int(log.sizes.max()) + 1)]
    known = np.zeros(len(keys), dtype=bool)
    candidate = np.zeros(len(keys), dtype=bool)
    skipped = np.zeros(len(keys), dtype=bool)
    for step, groups in log.by_step():
        evidences = [evidence_of[keys[group]] for group in groups]
        estimates = [predictor.estimate(evidence) for evidence in evidences]
        decisions = gate.decide(step, [keys[group] for group in groups], estimates)
        observations = []
        for group, evidence, estimate, decision in zip(groups, evidences, estimates, decisions, strict=True):
            known[group] = not estimate.abstains
            candidate[group] = decision.candidate
            skipped[group] = decision.gated
            if not decision.gated:
                first, end = starts[group], starts[group + 1]
                outcome = Outcome(texts[end - first], tuple(lengths[first:end]), tuple(correct[first:end]))
                observations.append(Observation(evidence, outcome, flat[group], decision.probability))
        predictor.observe(step, observations)
        gate.observe(
            decisions,
            [None if decision.gated else flat[group] for group, decision in zip(groups, decisions, strict=True)],
            [None if decision.gated else tokens[group] for group, decision in zip(groups, decisions, strict=True)],
        )
    everything = np.ones(len(keys), dtype=bool)
    precision = share_by_problem(log, candidate & log.zero_variance, candidate)
    recall = share_by_problem(log, candidate & log.zero_variance, log.zero_variance)
    saved = int(log.tokens[skipped].sum())
    return GateReplay(
        known=int(known.sum()),
        candidates=int(candidate.sum()),
        skipped=int(skipped.sum()),
        audited=int((candidate & ~skipped).sum()),
        precision=precision,
        recall=recall,
        f1=harmonic(precision.share, recall.share),
        base_rate=share_by_problem(log, log.zero_variance, everything),
        lost=share_by_problem(log, skipped & ~log.zero_variance, ~log.zero_variance),
        tokens_saved=saved,
        tokens_saved_share=saved / max(int(log.lengths.sum()), 1),
    )
