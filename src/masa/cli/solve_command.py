"""The options of `masa solve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.cli.arguments import Bf16, Json, Limit, Prompt, System, Threads


def solve(
    model: Annotated[str, typer.Argument(help="Folder, run folder, Hub id or name (`bundled`, `smollm2-135m`).")],
    question: Annotated[str | None, typer.Option(help="One question; or give --file.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Questions: JSONL, JSON or Parquet, or a text with one a line.")
    ] = None,
    problem_column: Annotated[str, typer.Option(help="Field of the question, where rows have fields.")] = "problem",
    kind: Annotated[str | None, typer.Option(help="How answers compare: math, choice, literal; default: math.")] = None,
    strategy: Annotated[str, typer.Option(help="both, adaptive, predicted or uniform.")] = "both",
    samples: Annotated[int, typer.Option(help="Answers a question, at most.")] = 16,
    budget: Annotated[int | None, typer.Option(help="Tokens for all questions together, predictions included.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="A vote is settled with this probability that its leader stays; default 0.95.")
    ] = None,
    posterior: Annotated[
        str | None, typer.Option(help="beta (the two leading answers) or dirichlet (all); default beta.")
    ] = None,
    predictions: Annotated[int | None, typer.Option(help="A question; default 4.")] = None,
    cutoff: Annotated[
        str | None,
        typer.Option(
            help="Token limit from the foretold length: paper, median, quantile or none; default: quantile "
            "where the model's run left what it needs, else paper."
        ),
    ] = None,
    cutoff_factor: Annotated[float | None, typer.Option(help="Limit over foretold length; default 2.")] = None,
    hints: Annotated[bool, typer.Option("--hints", help="Name foretold notions in the question.")] = False,
    temperature: Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of an answer; default: the model's run's, else 2048.")] = None,
    max_meta_tokens: Annotated[int | None, typer.Option(help="Of a prediction; default: as trained.")] = None,
    min_length: Annotated[int | None, typer.Option(help="Least length to foretell; default: as trained.")] = None,
    meta_prompt: Annotated[
        str | None, typer.Option(help="Name (math, brief, ...) or text; default: as trained, else math.")
    ] = None,
    prompt: Prompt = None,
    system: System = None,
    limit: Limit = None,
    seed: Annotated[int | None, typer.Option(help="Of the sampling; default: the run's, else 0.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rollouts generated at a time.")] = 128,
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
