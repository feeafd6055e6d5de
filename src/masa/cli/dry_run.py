"""`masa train --dry-run`: what a run will take and do, without loading weights or data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from masa import models
from masa.cli.data_source import refuse_wrong_types
from masa.cli.job import Job, assign
from masa.cli.tables import table
from masa.errors import UserError, unknown_key_message
from masa.evaluation.log_probe import percent
from masa.scaling import (
    Expectations,
    Memory,
    ModelShape,
    RunTokens,
    Workload,
    known_shape,
    memory_per_gpu,
    run_tokens,
    step_tokens,
    steps_within,
)
from masa.scaling.memory import DATA_PARALLEL, GIB, LORA
from masa.scaling.shapes import ALL_LINEAR, shape_from_folder
from masa.scaling.spending import gated_share, live_loss
from masa.training.presets import AUTO

_SHARES = (0.2, 0.4, 0.5, 0.6, 0.8)
"""Zero-variance shares for which savings are shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The estimates of one run."""

    model: str
    shape: ModelShape | None
    """None where nothing is known of the model."""
    why_unknown: str
    work: Workload
    expect: Expectations
    lora_rank: int | None
    """None trains all weights."""
    memory: tuple[Memory, ...]
    run: RunTokens | None
    """None where the number of steps is not known."""
    notes: tuple[str, ...]


def read_expectations(assignments: Sequence[str]) -> Expectations:
    """From `--expect key=value`.

    Raises:
        UserError: for unknown keys (the nearest known one is named), wrong types and numbers out of range.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        assign(values, assignment, "--expect")
    known = [entry.name for entry in fields(Expectations)]
    if unknown := [key for key in values if key not in known]:
        raise UserError("; ".join(unknown_key_message("key", key, known, where="--expect") for key in unknown))
    refuse_wrong_types(values, Expectations, "--expect")
    return Expectations(**values)


def make_plan(job: Job, expect: Expectations) -> Plan:
    """The estimates of a job; the network is never asked."""
    args, work, notes = job.args, job.args.workload(), []
    if job.max_tokens is not None:
        limits = [work.steps, steps_within(work, expect, job.max_tokens)]
        work = replace(work, steps=min((steps for steps in limits if steps is not None), default=None))
    if args.refill != "none":
        notes.append(f"refill {args.refill!r} draws further problems: their predictions and rollouts are not counted.")
    if args.parallel_steps == AUTO and work.has_savings:
        notes.append("parallel_steps 'auto' is counted as predictive from the first step.")
    shape, why_unknown = None, ""
    try:
        shape = find_shape(job.model)
    except UserError as error:
        why_unknown = str(error)
    rank, targets = _adapters(job.lora)
    memory = () if shape is None else memory_per_gpu(shape, work, expect, lora_rank=rank, lora_targets=targets)
    if shape is not None and not shape.lora_parameters(rank, targets):
        notes.append(f"lora.target_modules {targets!r} names none of the model's matrices: adapters are not counted.")
    return Plan(
        model=job.model,
        shape=shape,
        why_unknown=why_unknown,
        work=work,
        expect=expect,
        lora_rank=None if job.lora is None else rank,
        memory=tuple(memory),
        run=None if work.steps is None else run_tokens(work, expect),
        notes=tuple(notes),
    )


def _adapters(lora: Mapping[str, Any] | None) -> tuple[int, str | list[str]]:
    """Rank and targets; where no adapters are asked for, those that the row of LoRA stands for."""
    if lora is None:
        return 16, ALL_LINEAR
    rank, targets = lora.get("r", 8), lora.get("target_modules") or ALL_LINEAR
    if not isinstance(rank, int) or rank < 1:
        raise UserError(f"lora.r is {rank!r}: it must be a whole number, at least 1")
    if not isinstance(targets, str) and not (isinstance(targets, list) and all(isinstance(t, str) for t in targets)):
        raise UserError(f"lora.target_modules is {targets!r}: give names of layers, or {ALL_LINEAR}")
    return rank, targets


def find_shape(name: str) -> ModelShape:
    """The shape of a model: of a folder by its `config.json`, of a Hub id by our table or the local cache.

    Raises:
        UserError: if it is not known, with the remedy.
    """
    if (known := known_shape(name)) is not None:
        return known
    where = Path(models.resolve(name))
    if not where.is_dir():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json")
        if not isinstance(cached, str):
            raise UserError(
                f"the shape of {name} is not known, since it is not in the local cache: load it once, or name a folder"
            )
        where = Path(cached).parent
    if (shape := shape_from_folder(where)) is None:
        raise UserError(f"the shape of {name} is not known: only types llama, mistral, qwen2 and qwen3 are reckoned")
    return shape


def show_plan(plan: Plan, console: Console) -> None:
    """Print the estimates as tables."""
    for part in (*_model(plan), *_tokens(plan), *_savings(plan), *plan.notes):
        console.print(part, soft_wrap=isinstance(part, str), markup=False)  # brackets in names are theirs


def _model(plan: Plan) -> Iterable[str | Table]:
    shape, expect = plan.shape, plan.expect
    if shape is None:
        yield f"Memory: {plan.why_unknown}"
        return
    yield (
        f"{plan.model}: {_count(shape.parameters)} parameters; a token's keys and values take "
        f"{shape.kv_bytes_per_token() / 1024:.0f} KiB"
    )
    cards = "1 GPU" if expect.gpus == 1 else f"each of {expect.gpus} GPUs"
    made = table(
        f"\nMemory of {cards} in GiB, bfloat16 arithmetic",
        *("", "weights", "optimiser", "gradients", "activations", "copies", "KV cache", "peak"),
        *(["fits"] if expect.gpu_gib is not None else []),
    )
    for memory in plan.memory:
        parts = (memory.weights, memory.optimizer, memory.gradients, memory.activations)
        rollouts = (memory.rollout_copies, memory.kv_cache, memory.peak)
        is_ours = memory.strategy == (DATA_PARALLEL if plan.lora_rank is None else LORA)
        made.add_row(
            memory.strategy + (" *" if is_ours else ""),
            *(f"{size / GIB:.1f}" for size in (*parts, *rollouts)),
            *([] if expect.gpu_gib is None else ["yes" if memory.fits(expect.gpu_gib) else "no"]),
        )
    yield made
    yield "* as masa train does it on one GPU. Update and rollouts take turns: the peak is the larger of both."
    if expect.gpu_gib is not None:
        yield f"Fits: leaves a tenth of {expect.gpu_gib:g} GiB for what is not counted."


def _tokens(plan: Plan) -> Iterable[str | Table]:
    work, expect, run = plan.work, plan.expect, plan.run
    solution, meta = expect.mean_solution(work), expect.mean_meta(work)
    bound = " (the limit: an upper bound)" if expect.solution_tokens is None else ""
    group = f"({work.solutions} solutions + {work.predictions} predictions)"
    yield f"\nA step: {work.problems} problems x {group}; {solution:,.0f} tokens a solution{bound}, " + (
        f"{meta:,.0f} a prediction" if work.predictions else "no predictions"
    )
    made = table(
        f"\nTokens, {percent(expect.zero_variance)} of groups with zero variance",
        *("", "solutions", "predictions", "generated", "trained", "predictions'", "time"),
    )
    made.add_row("", "", "", "", "", "share", "")
    rows = [
        ("a step, parallel" if work.has_savings else "a step", step_tokens(work, expect, is_predictive=False)),
    ]
    if work.has_savings:
        rows.append(("a step, predictive", step_tokens(work, expect, is_predictive=True)))
    if run is not None:
        rows.append((f"{run.steps} steps", run))
    for name, tokens in rows:
        amounts = (tokens.solutions, tokens.predictions, tokens.generated, tokens.trained)
        made.add_row(name, *map(_count, amounts), percent(tokens.meta_share), _duration(tokens.seconds(expect)))
    yield made
    if expect.rollout_tokens_per_second is None:
        yield "No time without --expect rollout_tokens_per_second=N (and update_tokens_per_second=N)."


def _savings(plan: Plan) -> Iterable[str | Table]:
    work, run = plan.work, plan.run
    if not work.has_savings:
        return
    what = "a predictive step" if run is None else f"the run, predictive after step {work.parallel_steps}"
    made = table(
        f"\nSaved, over the solution tokens of plain GRPO, {what}",
        *("zero variance", "gated", "live lost", "gate", "cutoff", "predictions", "net", "net, perfect gate"),
    )
    for share in _SHARES:
        expect = replace(plan.expect, zero_variance=share)
        perfect = replace(expect, gate_recall=1.0, gate_precision=1.0)
        tokens, best = (
            step_tokens(work, e, is_predictive=True) if run is None else run_tokens(work, e) for e in (expect, perfect)
        )
        made.add_row(
            percent(share),
            percent(gated_share(work, expect)),
            percent(live_loss(work, expect)),
            *(
                percent(part / tokens.baseline if tokens.baseline else None)
                for part in (tokens.saved_gate, tokens.saved_cutoff, -tokens.predictions)
            ),
            percent(tokens.net_share),
            percent(best.net_share),
        )
    yield made
    yield (
        f"Gate with recall {plan.expect.gate_recall:g} and precision {plan.expect.gate_precision:g}, "
        f"{percent(work.audit_rate)} audited; gated and live lost: of a predictive step."
    )


def _count(number: float) -> str:
    """Three digits with a unit: 8.19 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def _duration(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
