"""`masa probe --rollouts`: a log of rollouts, and what a gate or a token limit would have done to it."""

from __future__ import annotations

import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from masa.cli.tables import share_text, table
from masa.evaluation.log_probe import LogProbe, cutoff_name, percent
from masa.evaluation.log_summary import LogSummary
from masa.runs.jsonlines import plain


def write_json(probe: LogProbe) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(plain(dataclasses.asdict(probe)), allow_nan=False) + "\n")


def show(probe: LogProbe) -> None:
    """Tables, and the figures in words."""
    console = Console(highlight=False)
    summary = probe.summary
    console.print(f"{probe.source}: {_size(summary)}", soft_wrap=True, markup=False)
    for note in _notes(summary):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    for made in (_groups(probe), _gates(probe), _cutoffs(probe)):
        console.print()
        console.print(made)
    console.print()
    console.print(probe.advice, markup=False)


def _size(summary: LogSummary) -> str:
    size = f"{summary.commonest_group}"
    if summary.smallest_group != summary.largest_group:
        size = f"{summary.smallest_group} to {summary.largest_group} (mostly {size})"
    return (
        f"{summary.rollouts:,} rollouts in {summary.groups:,} groups of {size}; {summary.steps:,} steps, "
        f"{summary.problems:,} problems, {summary.visits:.1f} visits each (at most {summary.most_visits})"
    )


def _notes(summary: LogSummary) -> list[str]:
    notes = []
    if summary.singles:
        notes.append(f"{summary.singles:,} groups of a single rollout are left out")
    if summary.unequal_rewards:
        notes.append(
            f"{summary.unequal_rewards:,} groups are all right or all wrong with unequal rewards, and count as live"
        )
    if summary.meta_rollouts:
        notes.append(f"{summary.meta_rollouts:,} predictions (role meta) are left out")
    if summary.gated or summary.cut:
        notes.append(
            f"the run's own gate kept {summary.gated:,} problems from being rolled out and its cutoff ended "
            f"{summary.cut:,} rollouts: what they would have been is not in the log"
        )
    return notes


def _groups(probe: LogProbe) -> Table:
    made = table(
        "Groups that teach nothing (all rewards equal)",
        *("steps", "groups", "pass\nrate", "zero\nvariance", "all\nright", "all\nwrong"),
        *("their\ntokens", "tokens of\nwrong answers"),
    )
    for period in (*probe.summary.thirds, probe.summary.whole):
        tokens = max(period.tokens, 1)
        made.add_row(
            f"{period.first_step}..{period.last_step}",
            f"{period.groups:,}",
            percent(period.pass_rate),
            share_text(period.zero_variance),
            percent(period.right),
            percent(period.wrong),
            percent(period.zero_variance_tokens / tokens),
            percent(period.wrong_tokens / tokens),
        )
    return made


def _gates(probe: LogProbe) -> Table:
    base = next(iter(probe.gates.values())).base_rate
    made = table(
        f"Gates that know only what they would have seen (base rate {percent(base.share)})",
        *("gate", "known", "skipped", "precision", "recall", "F1", "live\nlost", "tokens\nsaved"),
        tight=True,
    )
    whole = probe.summary.whole
    flat = percent(whole.zero_variance.share)
    made.add_row("perfect", "-", flat, "100 %", "100 %", "1.00", "0 %", percent(probe.perfect_share))
    for name, gate in probe.gates.items():
        made.add_row(
            name,
            percent(gate.known / whole.groups),
            percent(gate.skipped / whole.groups),
            share_text(gate.precision),
            share_text(gate.recall),
            "-" if gate.f1 is None else f"{gate.f1:.2f}",
            percent(gate.lost.share),
            percent(gate.tokens_saved_share),
        )
    return made


def _cutoffs(probe: LogProbe) -> Table:
    made = table(
        "Token limits from the median length of correct answers",
        *("limit", "limited", "correct\nanswers cut", "wrong\nanswers cut", "tokens\nsaved"),
    )
    for cutoff in probe.cutoffs:
        made.add_row(
            cutoff_name(cutoff),
            percent(cutoff.limited / probe.summary.groups),
            share_text(cutoff.false_cut),
            percent(cutoff.wrong_cut.share),
            percent(cutoff.tokens_saved_share),
        )
    return made
