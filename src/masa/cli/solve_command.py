"""The options of `masa solve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.cli import solve_options as of
from masa.cli.arguments import Bf16, Json, Limit, Prompt, System, Threads


def solve(
    model: of.Model,
    question: Annotated[str | None, typer.Option(help="One question; or give --file.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Questions: JSONL, JSON or Parquet, or a text with one a line.")
    ] = None,
    problem_column: Annotated[str, typer.Option(help="Field of the question, where rows have fields.")] = "problem",
    kind: Annotated[str | None, typer.Option(help="How answers compare: math, choice, literal; default: math.")] = None,
    strategy: of.StrategyName = "both",
    samples: of.Samples = 16,
    budget: Annotated[int | None, typer.Option(help="Tokens for all questions together, predictions included.")] = None,
    threshold: of.Threshold = None,
    posterior: of.PosteriorName = None,
    predictions: of.Predictions = None,
    cutoff: of.CutoffName = None,
    cutoff_factor: of.CutoffFactor = None,
    hints: of.Hints = False,
    temperature: of.Temperature = None,
    top_p: of.TopP = None,
    max_tokens: of.MaxTokens = None,
    max_meta_tokens: of.MaxMetaTokens = None,
    min_length: of.MinLength = None,
    meta_prompt: of.MetaPrompt = None,
    prompt: Prompt = None,
    system: System = None,
    limit: Limit = None,
    seed: of.Seed = None,
    batch_size: of.BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
    json_: Json = False,
) -> None:
    """Answer questions: foretell first, then draw answers until the vote is settled or the budget is spent."""
    from masa.cli.measuring import Options
    from masa.cli.solve import Asked, run
    from masa.cli.spending import Spending

    spending = Spending(
        strategy=strategy,
        samples=samples,
        budget=budget,
        threshold=threshold,
        posterior=posterior,
        predictions=predictions,
        cutoff=cutoff,
        cutoff_factor=cutoff_factor,
        hints=hints,
    )
    options = Options(
        n=samples,
        m=spending.m,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        prompt=prompt,
        system=system,
        meta_prompt=meta_prompt,
        max_meta_tokens=max_meta_tokens,
        min_length=min_length,
        limit=limit,
        seed=seed,
        batch_size=batch_size,
        threads=threads,
        bf16=bf16,
    )
    run(model, options, Asked(question, file, problem_column, kind), spending, as_json=json_)
