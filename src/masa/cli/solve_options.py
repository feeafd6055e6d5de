"""The options that `masa solve` and `masa serve` have in common, beside those of all commands that measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StrategyName = Annotated[str, typer.Option(help="both, adaptive, learned, predicted or uniform.")]
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
LearnFrom = Annotated[
    Path | None, typer.Option(help="Of learned: folder of the model's graded answers, from eval or probe.")
]
LeastGain = Annotated[
    float | None, typer.Option(help="Of learned: what a sample must add to the chance to be right; default 0.005.")
]
