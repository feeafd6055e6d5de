"""The commands. Mistakes of the user's end in one line and exit 2, ours in one line and exit 1."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from masa.cli.arguments import (
    BatchSize,
    Bf16,
    Data,
    DataDir,
    Json,
    Limit,
    MaxMetaTokens,
    MaxTokens,
    MetaPrompt,
    MinLength,
    Prompt,
    Seed,
    System,
    Temperature,
    Threads,
    TopP,
    Unsafe,
    settings_from,
)
from masa.cli.data import app as data_app
from masa.cli.evaluate_command import evaluate
from masa.cli.push import push
from masa.cli.serve_command import serve
from masa.cli.solve_command import solve
from masa.cli.watch_command import watch
from masa.errors import Interrupted, UserError, met_by_one
from masa.runs import disk

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
app.command(name="eval")(evaluate)
app.command()(solve)
app.command()(serve)
app.command()(watch)
app.command()(push)


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="YAML file of settings; default: the bundled run.")] = None,
    preset: Annotated[str | None, typer.Option(help="Published recipe, for example masa-efficient.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder, Hub id or name (`bundled`, `smollm2-135m`).")] = None,
    data: Annotated[
        str | None, typer.Option(help="Benchmark (`masa data list`), file, Hub id, task, `bundled`.")
    ] = None,
    reward: Annotated[str | None, typer.Option(help="Your reward function, module:function.")] = None,
    output: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting, key=value; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop after generating this many tokens.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop after this many minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved settings and what they will take, and stop.")
    ] = False,
    expect: Annotated[
        list[str] | None, typer.Option(help="Of --dry-run: key=value, for example gpus=8; may be repeated.")
    ] = None,
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
    if expect and not dry_run:
        raise UserError("--expect tells --dry-run what to reckon with: add --dry-run, or leave it out")
    job = read_job(config, {name: value for name, value in given.items() if value is not None}, set_ or [])
    if dry_run:
        from masa.cli.dry_run import make_plan, read_expectations, show_plan
        from masa.cli.tables import wide_console

        plan = make_plan(job, read_expectations(expect or []))
        sys.stdout.write(job.as_yaml())
        sys.stdout.flush()
        show_plan(plan, wide_console(stderr=True))
        return
    from masa.cli.train import run

    run(job, resume=resume)


@app.command()
def compare(
    config: Annotated[
        Path | None, typer.Argument(help="YAML file as for train; may have arms, seeds, baseline.")
    ] = None,
    arms: Annotated[str | None, typer.Option(help="Presets or the config's arms: grpo,masa-efficient.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Whole numbers: 0,1,2.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The arm to hold the others against; default grpo.")] = None,
    target: Annotated[
        float | None, typer.Option(help="Accuracy, 0 to 1, to time arms to; default: the baseline's final one.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of all runs and of the page.")] = Path("runs/compare"),
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; default 2, or 1 on one core.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop each run after generating this many tokens.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop each run after this many minutes.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any setting of all arms; may be repeated.")] = None,
    as_json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Train arms with the same seeds and data, and compare what they reached for what they spent; resumable."""
    from masa.cli.compare_plan import read_plan

    budget = {"max_tokens": max_tokens, "max_minutes": max_minutes}
    plan = read_plan(config, set_ or [], arms=arms, seeds=seeds, baseline=baseline, budget=budget)
    from masa.cli.compare import run

    if code := run(plan, output, jobs=jobs, target=target, as_json=as_json, is_dry=dry_run):
        raise typer.Exit(code)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: report.html in the folder, or beside several.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run; of several runs, arms side by side with intervals over seeds."""
    from masa.cli.report import write

    typer.echo(write(runs, output))


@app.command()
def probe(
    model: Annotated[str | None, typer.Argument(help="Folder, run folder, Hub id or name; or give --rollouts.")] = None,
    data: Data = None,
    n: Annotated[int, typer.Option(help="Solutions a problem.")] = 8,
    m: Annotated[int, typer.Option(help="Predictions a problem.")] = 8,
    meta_prompt: MetaPrompt = None,
    min_length: MinLength = None,
    max_tokens: MaxTokens = None,
    max_meta_tokens: MaxMetaTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    prompt: Prompt = None,
    system: System = None,
    limit: Limit = None,
    data_dir: DataDir = None,
    output: Annotated[Path | None, typer.Option(help="Folder of answers and page; runs/probe-MODEL-DATA.")] = None,
    batch_size: BatchSize = 128,
    threads: Threads = None,
    bf16: Bf16 = None,
    rollouts: Annotated[
        Path | None,
        typer.Option(help="JSONL (also .gz) or Parquet with one line a rollout, a folder, or a run folder."),
    ] = None,
    problem_column: Annotated[str, typer.Option(help="Of --rollouts: text or id of the problem.")] = "problem",
    correct_column: Annotated[str, typer.Option(help="Boolean, 0 or 1, or a reward.")] = "correct",
    length_column: Annotated[str, typer.Option(help="Generated tokens.")] = "length",
    step_column: Annotated[str, typer.Option(help="Training step.")] = "step",
    reward_column: Annotated[
        str | None, typer.Option(help="What must be equal for zero variance; default: what says `correct`.")
    ] = None,
    correct_threshold: Annotated[float, typer.Option(help="A reward of at least this is correct.")] = 0.99,
    seed: Seed = None,
    unsafe_code_execution: Unsafe = False,
    json_: Json = False,
) -> None:
    """Does a model know what it can do, and what would that save? Or, of logged rollouts: would a gate have paid?"""
    given = locals()
    if (model is None) == (rollouts is None):
        raise UserError("masa probe asks a model (MODEL --data ...) or logged rollouts (--rollouts FILE): give one")
    if model is not None:
        from masa.cli.measuring import Options
        from masa.cli.probe_model import run

        if m < 1:
            raise UserError(f"--m {m}: a probe needs at least 1 prediction a problem")
        options = settings_from(given, Options, allow_unsafe_code=unsafe_code_execution)
        run(model, options, as_json=json_)
        return
    from masa.cli.probe import show, write_json
    from masa.evaluation.log_probe import probe_log
    from masa.evaluation.logged_rollouts import LogColumns, read_log

    assert rollouts is not None
    columns = LogColumns(problem_column, correct_column, length_column, step_column, reward_column)
    found = probe_log(read_log(rollouts, columns, correct_threshold=correct_threshold), seed=seed or 0)
    if json_:
        write_json(found)
    else:
        show(found)


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
        # What all processes of a machine meet, one of them shows.
        if os.environ.get("LOCAL_RANK", "0") == "0" or met_by_one(error):
            console.print("error:", style="bold red", end=" ")
            console.print(" ".join(str(error).split()), markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped")
        sys.exit(130)
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            console.print(str(stop), markup=False)
        raise
    except Exception as error:
        if debug:
            raise
        if disk.is_full(error):
            console.print("error:", style="bold red", end=" ")
            console.print(f"disk full: {error}; free some space and go on with --resume", markup=False)
            sys.exit(2)
        console.print("internal error:", style="bold red", end=" ")
        console.print(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows more)", markup=False)
        sys.exit(1)
