"""The options of `masa watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.cli.arguments import Json


def watch(
    run: Annotated[Path, typer.Argument(help="Run folder, or the folder of a `masa compare`.")],
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print what there is now, and leave.")] = False,
    as_json: Json = False,
) -> None:
    """Follow a run by its files: progress, time left, curves, the last rollouts. Ctrl-C leaves it alone."""
    from masa.cli.watch import run as follow

    follow(run, every=every, once=once, as_json=as_json)
