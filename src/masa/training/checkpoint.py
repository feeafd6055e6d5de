"""Our state beside TRL's in a checkpoint, and checkpoints that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_utils import rotate_checkpoints

from masa.errors import UserError
from masa.runs import atomic_write_text

if TYPE_CHECKING:
    from masa.training.trainer import MASATrainer

STATE_FILE = "masa_state.json"
EXPERT_OPTIMIZER_FILE = "masa_expert_optimizer.pt"
_STAGING = ".staging"

MAY_DIFFER = frozenset(
    {
        "max_steps",
        "num_train_epochs",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "logging_steps",
        "logging_dir",
        "report_to",
        "disable_tqdm",
        "show_completions_every",
        "num_threads",
        "packed_update",
        "run_name",
        "output_dir",
    }
)
"""Settings that a resumed run may change. All but the number of steps, which a learning rate schedule that is not
constant depends on, leave what a step does as it is."""


def _parts(trainer: MASATrainer) -> dict[str, Any]:
    """Everything of ours that has state, by its name in the file."""
    maker = trainer.experience
    return {
        "stream": maker.stream,
        **maker.advisers.parts(),
        "expert": trainer.expert,
        "ledger": trainer.ledger,
        "measures": trainer.measures,
    }


def save_state(folder: Path, trainer: MASATrainer) -> None:
    """Write our state into a checkpoint folder."""
    state = {name: part.state_dict() for name, part in _parts(trainer).items()}
    atomic_write_text(folder / STATE_FILE, json.dumps({"step": trainer.state.global_step, **state}))
    if trainer.expert.has_imitated:
        torch.save(trainer.expert.imitation(trainer).state_dict(), folder / EXPERT_OPTIMIZER_FILE)


def load_state(folder: str | os.PathLike[str], trainer: MASATrainer) -> None:
    """Read it back, and let the run folder forget what came after.

    Raises:
        UserError: if the checkpoint was not written by this trainer.
    """
    path = Path(folder) / STATE_FILE
    if not path.exists():
        raise UserError(f"{path.parent} holds no {STATE_FILE}: it is not a checkpoint of MASATrainer")
    state = json.loads(path.read_text(encoding="utf-8"))
    for name, part in _parts(trainer).items():
        try:
            part.load_state_dict(state[name])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path}: the state of {name} is not this version's ({error}): resume with the version that wrote it, "
                "or start anew from its weights"
            ) from error
    optimizer = Path(folder) / EXPERT_OPTIMIZER_FILE
    if optimizer.exists():
        trainer.expert.imitation(trainer).load_state_dict(torch.load(optimizer, weights_only=True))
    if trainer.run is not None:
        trainer.run.rewind(int(state["step"]))


@contextmanager
def staged(trainer: MASATrainer, trial: Any) -> Iterator[Path]:
    """Let the body write `checkpoint-N` in a staging folder, then move it into place and delete old ones.

    transformers writes a checkpoint file by file and deletes old ones before a subclass has added its own; a kill
    in between would leave a checkpoint that looks whole.
    """
    final = Path(trainer._get_output_dir(trial=trial)) / f"checkpoint-{trainer.state.global_step}"
    staging = final.parent / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    limit, directory = trainer.args.save_total_limit, trainer.args.output_dir
    trainer.args.save_total_limit, trainer.args.output_dir = None, str(staging)
    try:
        yield staging / final.name
    finally:
        trainer.args.save_total_limit, trainer.args.output_dir = limit, directory
    if final.exists():
        shutil.rmtree(final)
    (staging / final.name).replace(final)
    shutil.rmtree(staging, ignore_errors=True)
    rotate_checkpoints(output_dir=str(final.parent), save_total_limit=limit, use_mtime=True)


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The newest whole checkpoint of a run folder, or None."""
    found = [
        (int(path.name.removeprefix("checkpoint-")), path)
        for path in Path(folder).glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit() and (path / STATE_FILE).exists()
    ]
    return max(found)[1] if found else None
