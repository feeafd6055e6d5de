"""The commands. Mistakes of the user's end in one line and exit 2, ours in one line and exit 1."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from masa.cli.data import app as data_app
from masa.errors import UserError

app = typer.Typer(
    name="masa",
    help="Post-train reasoning models that foretell themselves, and spend rollouts by what they foretell.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="Models by name.", no_args_is_help=True)
tiny_app = typer.Typer(help="The bundled model.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(tiny_app, name="tiny")
app.add_typer(data_app, name="data")


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="YAML file of settings; default: the bundled run.")] = None,
    preset: Annotated[str | None, typer.Option(help="Published recipe, for example masa-efficient.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder, Hub id or name (`bundled`, `smollm2-135m`).")] = None,
    data: Annotated[str | None, typer.Option(help="JSONL or Parquet file, Hub id, task, `bundled`.")] = None,
    reward: Annotated[str | None, typer.Option(help="Your reward function, module:function.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting, key=value; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop after generating this many tokens.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train a model; writes a run folder and a report."""
    from masa.cli.job import read_job

    given = {
        "preset": preset,
        "model": model,
        "data": data,
        "reward": reward,
        "output": output,
        "max_tokens": max_tokens,
        "max_minutes": max_minutes,
    }
    job = read_job(config, {name: value for name, value in given.items() if value is not None}, set_ or [])
    if dry_run:
        sys.stdout.write(job.as_yaml())
        return
    from masa.cli.train import run

    run(job, resume=resume)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: report.html in the folder.")] = None,
) -> None:
    """Write one self-contained HTML page about a run."""
    from masa.report import write_report

    typer.echo(write_report(run, output))


@app.command()
def grade(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="JSONL of gold and prediction; - reads standard input.")
    ],
    kind: Annotated[str, typer.Option(help="math, choice, literal or code; a row's own field `kind` wins.")] = "math",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Grader setting, for example relative_tolerance=0.05.")
    ] = None,
    gold_column: Annotated[str, typer.Option(help="Field of the right answer (or the tests).")] = "gold",
    prediction_column: Annotated[str, typer.Option(help="Field of the text to grade.")] = "prediction",
    unsafe_code_execution: Annotated[
        bool, typer.Option("--unsafe-code-execution", help="Run code even where it cannot be isolated.")
    ] = False,
) -> None:
    """Say of each answer whether it is right, and why: JSON lines with correct, extracted, reason."""
    from masa.cli.grade import run

    run(
        source,
        kind=kind,
        assignments=set_ or [],
        columns=(gold_column, prediction_column),
        allow_unsafe=unsafe_code_execution,
    )


@models_app.command("get")
def models_get(name: Annotated[str, typer.Argument(help="For example smollm2-135m.")]) -> None:
    """Fetch a named model into the cache, once."""
    from masa import models

    typer.echo(models.get(name))


@tiny_app.command("build")
def tiny_build(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for model and tokenizer.")],
    seed: Annotated[int, typer.Option(help="Seed of weights and corpus.")] = 0,
) -> None:
    """Make the bundled model again from its recipe (up to 90 minutes on two cores)."""
    from masa.tiny.recipe import build

    typer.echo(build(output, seed=seed))


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options that every command has."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("masa-rl"))
        raise typer.Exit
    if debug:
        os.environ["MASA_DEBUG"] = "1"


def main() -> None:
    """Entry point of `masa`."""
    # Spinning threads that wait for each other can cost a factor of ten on a machine that is shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # TRL sets a field that transformers has renamed; the user can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*gradient_checkpointing.*")
    debug = "--debug" in sys.argv or bool(os.environ.get("MASA_DEBUG"))
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except UserError as error:
        if debug:
            raise
        console.print("error:", style="bold red", end=" ")
        console.print(" ".join(str(error).split()), markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        console.print("internal error:", style="bold red", end=" ")
        console.print(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows more)", markup=False)
        sys.exit(1)
