"""The options of `masa eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.cli.arguments import (
    BatchSize,
    Bf16,
    Data,
    DataDir,
    Json,
    Limit,
    MaxTokens,
    Model,
    Prompt,
    Seed,
    System,
    Temperature,
    Threads,
    TopP,
    Unsafe,
    settings_from,
)
from masa.cli.solve_options import LearnFrom, LeastGain
from masa.errors import UserError

_SPENDING = ("budget", "strategy", "threshold", "predictions", "learn_from", "least_gain")
"""Options of `--policy adaptive` alone."""


def evaluate(
    model: Model,
    data: Data = None,
    n: Annotated[
        int | None, typer.Option(help="Answers a problem; default 8, 1 with --greedy, 16 with adaptive.")
    ] = None,
    k: Annotated[str | None, typer.Option(help="The k of pass@k, at most n: 1,8.")] = None,
    policy: Annotated[
        str, typer.Option(help="plain: n answers a problem. adaptive: one, by a vote of up to n that stops in time.")
    ] = "plain",
    budget: Annotated[
        int | None, typer.Option(help="Of adaptive: tokens for all problems together, predictions included.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(help="Of adaptive: both, adaptive, learned, predicted or uniform, as for solve; default both."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Of adaptive, as for solve; default 0.95.")] = None,
    predictions: Annotated[int | None, typer.Option(help="Of adaptive: a problem, as for solve; default 4.")] = None,
    learn_from: LearnFrom = None,
    least_gain: LeastGain = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="The likeliest token each time; one answer.")] = False,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    prompt: Prompt = None,
    system: System = None,
    limit: Limit = None,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option(help="Folder of every answer; default runs/eval-MODEL-DATA.")] = None,
    seed: Seed = None,
    batch_size: BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
    unsafe_code_execution: Unsafe = False,
    json_: Json = False,
) -> None:
    """How much a model solves: pass@k, majority, lengths. The same command goes on where it was stopped."""
    given = locals()
    if greedy and (temperature or n not in (None, 1)):
        raise UserError("--greedy gives one answer at temperature 0: leave out --temperature and --n")
    from masa.cli.evaluate import run
    from masa.cli.evaluate_adaptive import find_spending, run_adaptive
    from masa.cli.measuring import Options
    from masa.solving.strategy import SAMPLES

    if policy == "adaptive" and greedy:
        raise UserError("--greedy gives one answer, which is no vote: leave out --policy adaptive")
    spending = find_spending(
        policy,
        SAMPLES if n is None else n,
        k=k,
        given={name: given[name] for name in _SPENDING},
    )
    options = settings_from(
        given,
        Options,
        n=spending.samples if spending else n if n is not None else 1 if greedy else 8,
        m=spending.m if spending else 0,
        temperature=0.0 if greedy else temperature,
        allow_unsafe_code=unsafe_code_execution,
    )
    if spending is None:
        run(model, options, k=k, as_json=json_)
    else:
        run_adaptive(model, options, spending, as_json=json_)
