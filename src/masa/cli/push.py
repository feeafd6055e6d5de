"""`masa push`: a run's model to the Hub, with the card that carries its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masa.errors import UserError
from masa.runs import RunFolder
from masa.runs.card import write_card
from masa.runs.disk import megabytes


def push(
    run: Annotated[Path, typer.Argument(help="Run folder whose training has ended.")],
    repo: Annotated[str, typer.Argument(help="Repository on the Hub, owner/name; made if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Make it a private one.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the card, name what would go up, and stop.")
    ] = False,
) -> None:
    """Upload the model of a run, its card and nothing else; the Hub's own login holds (`hf auth login`)."""
    folder = RunFolder.open(run)
    model = folder.path / "model"
    if not model.is_dir():
        raise UserError(f"run {run} has no folder `model` yet: let it end first")
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UserError(f"repository {repo!r}: write owner/name")
    card = write_card(folder, model, name=repo.partition("/")[2])
    files = sorted(path for path in model.rglob("*") if path.is_file())
    for path in files:
        typer.echo(f"{path.relative_to(model)}  {megabytes(path.stat().st_size)}")
    if dry_run:
        typer.echo(f"card: {card}")
        return
    typer.echo(_upload(model, repo, private=private))


def _upload(model: Path, repo: str, *, private: bool) -> str:
    """Where it is to be found afterwards."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(folder_path=model, repo_id=repo, commit_message="Model and card of a run of masa")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"push to {repo}: {said}; log in with `hf auth login`, and check name and network") from error
    return str(url)
