"""One run of a comparison as one small JSON: everything that a comparison needs, so that it can travel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from masa.errors import UserError
from masa.runs import RunFolder

FORMAT = 1
MAX_STEPS = 200
"""Points of the series by step; longer runs are thinned evenly."""

AWARENESS = ("pass_rate_spearman", "length_spearman", "brier", "ece", "valid_share")
HELDOUT_GATE = ("gate_precision", "gate_recall", "zero_variance_share")
GATE = ("precision", "recall", "f1", "base_rate", "share", "rule_share", "audits_window", "passed_window")
CUTOFF = ("precision", "recall", "f1", "base_rate", "share", "false_cut_rate", "exempt_window", "exempt_correct_window")

_NOT_COMPARED = frozenset(
    {
        *("output_dir", "logging_dir", "run_name", "report_to", "disable_tqdm", "show_completions_every"),
        *("save_strategy", "save_steps", "save_total_limit"),
    }
)
"""Settings that say where and how a run is written, not what it does."""


def compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what a run does."""
    return {key: value for key, value in settings.items() if key not in _NOT_COMPARED}


def differing_settings(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which two runs differ; one that only one of them knows is of another version."""
    return sorted(key for key in compared(there).keys() & compared(now).keys() if there[key] != now[key])


def run_result(
    folder: RunFolder, *, arm: str, seed: int, settings: Mapping[str, Any], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """What a finished run leaves to a comparison, in JSON's types, some tens of kilobytes at most.

    Args:
        folder: the run's folder.
        arm: the arm's name.
        seed: the run's seed.
        settings: the resolved settings.
        machine: what the run was timed on, as plain values.

    Raises:
        UserError: if the run has no held-out evaluation, or none that knows its tokens.
    """
    evaluations = sorted(folder.read_evaluations(), key=lambda row: int(row["step"]))
    if not evaluations:
        raise UserError(f"{folder.path} has no held-out evaluation: give the runs `heldout` data")
    metrics = folder.read_metrics()
    by_step = _by_step(metrics)
    ledger = folder.read_ledger()
    last = metrics[-1] if metrics else {}
    return {
        "format": FORMAT,
        "arm": arm,
        "seed": seed,
        "settings": dict(settings),
        "versions": dict(folder.read_config().get("run", {}).get("versions", {})),
        "machine": dict(machine),
        "steps": int(ledger.get("steps", len(metrics))),
        "policy_updates": ledger.get("policy_updates"),
        "curve": [_evaluation(row, by_step) for row in evaluations],
        "pass_rates": evaluations[-1].get("pass_rates"),
        "by_step": _thinned(list(by_step.values())),
        "ledger": ledger,
        "gate": _final(last, "gate", GATE),
        "cutoff": _final(last, "cutoff", CUTOFF),
    }


_WHOLE_STEP = ("time/step", "time/processor")
"""Seconds that are no part of the step beside others."""


def _by_step(metrics: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Running totals by step: tokens, seconds of training and, where written, solution tokens of live groups."""
    seconds = 0.0
    rows = {}
    for row in metrics:
        parts = [float(v) for k, v in row.items() if k.startswith("time/") and k not in _WHOLE_STEP]
        seconds += math.fsum(parts)
        step = int(row["step"])
        rows[step] = {
            "step": step,
            "tokens": row.get("tokens/generated"),
            "seconds": seconds,
            "live_tokens": row.get("tokens/live"),
        }
    return rows


def _evaluation(row: Mapping[str, Any], by_step: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    step = int(row["step"])
    live = 0 if step == 0 else by_step.get(step, {}).get("live_tokens")
    found = {name: row.get(name) for name in ("step", "tokens", "seconds", "pass_at_1")}
    if any(value is None for value in found.values()):
        missing = ", ".join(name for name, value in found.items() if value is None)
        raise UserError(f"the evaluation of step {step} lacks {missing}: the run is of another version; run it again")
    beside = {"transfer": row["transfer_pass_at_1"]} if "transfer_pass_at_1" in row else {}
    awareness = {name: row[name] for name in (*AWARENESS, *HELDOUT_GATE) if name in row}
    return found | beside | {"live_tokens": live, "awareness": awareness}


def _thinned(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    stride = max(1, math.ceil((len(rows) - 1) / (MAX_STEPS - 1)))
    kept = list(rows[::stride])
    if rows and kept[-1] is not rows[-1]:
        kept.append(rows[-1])
    names = rows[0].keys() if rows else ()
    return {name: [row[name] for row in kept] for name in names}


def _final(row: Mapping[str, Any], space: str, names: Sequence[str]) -> dict[str, Any]:
    """The last step's figures of the gate or the cutoff, with their intervals; empty where the run had none."""
    keys = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return {key: row[f"{space}/{key}"] for key in keys if f"{space}/{key}" in row}
