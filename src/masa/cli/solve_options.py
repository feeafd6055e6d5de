"""The options that `masa solve` and `masa serve` have in common."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="Folder, run folder, Hub id or name (`bundled`, `smollm2-135m`).")]
StrategyName = Annotated[str, typer.Option(help="both, adaptive, predicted or uniform.")]
Samples = Annotated[int, typer.Option(help="Answers a question, at most.")]
Threshold = Annotated[
    float | None, typer.Option(help="A vote is settled with this probability that its leader stays; default 0.95.")
]
PosteriorName = Annotated[
    str | None, typer.Option(help="beta (the two leading answers) or dirichlet (all); default beta.")
]
Predictions = Annotated[int | None, typer.Option(help="A question; default 4.")]
CutoffName = Annotated[
    str | None,
    typer.Option(
        help="Token limit from the foretold length: paper, median, quantile or none; default: quantile "
        "where the model's run left what it needs, else paper."
    ),
]
CutoffFactor = Annotated[float | None, typer.Option(help="Limit over foretold length; default 2.")]
Hints = Annotated[bool, typer.Option("--hints", help="Name foretold notions in the question.")]
Temperature = Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")]
TopP = Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")]
MaxTokens = Annotated[int | None, typer.Option(help="Of an answer; default: the model's run's, else 2048.")]
MaxMetaTokens = Annotated[int | None, typer.Option(help="Of a prediction; default: as trained.")]
MinLength = Annotated[int | None, typer.Option(help="Least length to foretell; default: as trained.")]
MetaPrompt = Annotated[
    str | None, typer.Option(help="Name (math, brief, ...) or text; default: as trained, else math.")
]
Seed = Annotated[int | None, typer.Option(help="Of the sampling; default: the run's, else 0.")]
BatchSize = Annotated[int, typer.Option(help="Rollouts generated at a time.")]
