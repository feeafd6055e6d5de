"""The options of `masa solve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.cli import solve_options as of
from masa.cli.arguments import (
    BatchSize,
    Bf16,
    Json,
    Limit,
    MaxMetaTokens,
    MaxTokens,
    MetaPrompt,
    MinLength,
    Model,
    Prompt,
    Seed,
    System,
    Temperature,
    Threads,
    TopP,
    settings_from,
)


def solve(
    model: Model,
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
    learn_from: of.LearnFrom = None,
    least_gain: of.LeastGain = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    max_meta_tokens: MaxMetaTokens = None,
    min_length: MinLength = None,
    meta_prompt: MetaPrompt = None,
    prompt: Prompt = None,
    system: System = None,
    limit: Limit = None,
    seed: Seed = None,
    batch_size: BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
    json_: Json = False,
) -> None:
    """Answer questions: foretell first, then draw answers until the vote is settled or the budget is spent."""
    given = locals()
    from masa.cli.measuring import Options
    from masa.cli.solve import Asked, run
    from masa.cli.spending import Spending

    spending = settings_from(given, Spending)
    options = settings_from(given, Options, n=samples, m=spending.m)
    run(model, options, Asked(question, file, problem_column, kind), spending, as_json=json_)
