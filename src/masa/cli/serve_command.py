"""The options of `masa serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from masa.cli import solve_options as of
from masa.cli.arguments import (
    BatchSize,
    Bf16,
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


def serve(
    model: Model,
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
    seed: Seed = None,
    batch_size: BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
) -> None:
    """Answer over HTTP as `masa solve` does, by OpenAI's protocol of chat completions."""
    given = locals()
    from masa.cli.measuring import Options
    from masa.cli.serve import Address, run
    from masa.cli.spending import Spending

    address = Address(host, port, api_key, queue, together, grace)
    spending = settings_from(given, Spending)
    options = settings_from(given, Options, n=samples, m=spending.m)
    run(model, options, spending, address, name=name, kind=kind)
