"""Options that several commands have, in the same words, and the way from a command's options to settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

Model = Annotated[str, typer.Argument(help="Folder, run folder, Hub id or name (`bundled`, `smollm2-135m`).")]
Data = Annotated[str | None, typer.Option(help="Names or files joined by commas; a run's own held-out set.")]
Prompt = Annotated[str | None, typer.Option(help="Template around {problem}; default: as trained.")]
System = Annotated[str | None, typer.Option(help="System message; default: as trained.")]
Limit = Annotated[int | None, typer.Option(help="The first so many problems of each set.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder in which names are sought.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Bf16 = Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="Default: where it is fast.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Temperature = Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")]
TopP = Annotated[float | None, typer.Option(help="Of all samples; default: as trained, else 1.")]
MaxTokens = Annotated[int | None, typer.Option(help="Of an answer; default: the model's run's, else 2048.")]
MaxMetaTokens = Annotated[int | None, typer.Option(help="Of a prediction; default: as trained.")]
MinLength = Annotated[int | None, typer.Option(help="Least length to foretell; default: as trained.")]
MetaPrompt = Annotated[
    str | None, typer.Option(help="Name (math, brief, ...) or text; default: as trained, else math.")
]
Seed = Annotated[int | None, typer.Option(help="Of all draws; default: the run's, else 0.")]
BatchSize = Annotated[int, typer.Option(help="Rollouts generated at a time.")]
Unsafe = Annotated[bool, typer.Option("--unsafe-code-execution", help="Run code even where it cannot be isolated.")]


def settings_from(given: Mapping[str, Any], kind: type[T], **more: Any) -> T:
    """A data class of settings: each field has the value of the option of its name, where there is one.

    Args:
        given: a command's options; its `locals()` before anything else is there.
        kind: the data class.
        more: fields that no option gives as it is.
    """
    named = {field.name: given[field.name] for field in fields(kind) if field.name in given}  # type: ignore[arg-type]
    return kind(**named | more)
