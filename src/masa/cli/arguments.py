"""Options that several commands have, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[str | None, typer.Option(help="Names or files joined by commas; a run's own held-out set.")]
Prompt = Annotated[str | None, typer.Option(help="Template around {problem}; default: as trained.")]
System = Annotated[str | None, typer.Option(help="System message; default: as trained.")]
Limit = Annotated[int | None, typer.Option(help="The first so many problems of each set.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder in which names are sought.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Bf16 = Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="Default: where it is fast.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
