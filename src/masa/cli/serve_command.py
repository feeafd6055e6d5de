"""The options of `masa serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from masa.cli import solve_options as of
from masa.cli.arguments import Bf16, Prompt, System, Threads


def serve(
    model: of.Model,
    host: Annotated[str, typer.Option(help="Address to listen at; other than loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="MASA_API_KEY", help="What clients must send; others can see options.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's for clients; default: MODEL as it is given.")] = None,
    queue: Annotated[int, typer.Option(help="Requests that may wait.")] = 32,
    together: Annotated[int, typer.Option(help="Requests that are answered together, in the engine's calls.")] = 8,
    grace: Annotated[int, typer.Option(help="Seconds that answers have left after Ctrl-C.")] = 10,
    kind: Annotated[str, typer.Option(help="How answers compare: math, choice, literal.")] = "math",
    strategy: of.StrategyName = "both",
    samples: of.Samples = 16,
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
    seed: of.Seed = None,
    batch_size: of.BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
) -> None:
    """Answer over HTTP as `masa solve` does, by OpenAI's protocol of chat completions."""
    from masa.cli.measuring import Options
    from masa.cli.serve import Address, run
    from masa.cli.spending import Spending

    address = Address(host, port, api_key, queue, together, grace)
    spending = Spending(
        strategy=strategy,
        samples=samples,
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
        seed=seed,
        batch_size=batch_size,
        threads=threads,
        bf16=bf16,
    )
    run(model, options, spending, address, name=name, kind=kind)
