"""Our state beside TRL's in a checkpoint, and checkpoints that appear whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints

from masa.errors import UserError
from masa.runs import Ledger, RunFolder, atomic_write_text, disk
from masa.runs.jsonlines import differing, plain
from masa.training import sharding

if TYPE_CHECKING:
    from masa.training.config import MASAConfig
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
        "max_nonfinite_steps",
        "reward_timeout",
        "num_threads",
        "packed_update",
        "run_name",
        "output_dir",
    }
)
"""Settings that a resumed run may change. All but the number of steps, which a learning rate schedule that is not
constant depends on, leave what a step does as it is where no fault occurs."""


def run_folder(config: MASAConfig, *, resume: bool) -> RunFolder:
    """The run's folder, made or taken up again.

    Raises:
        UserError: if it holds another run, or with `resume` one of other settings.
    """
    return RunFolder.create(
        config.output_dir or "", config.resolved(), seeds={"seed": config.seed}, resume=resume, may_differ=MAY_DIFFER
    )


def _parts(trainer: MASATrainer) -> dict[str, Any]:
    """Everything of ours that has state, by its name in the file."""
    maker = trainer.experience
    return {
        "stream": maker.stream,
        **maker.advisers.parts(),
        "expert": trainer.expert,
        "ledger": trainer.ledger,
        "measures": trainer.measures,
        "updates": trainer.updates,
    }


def save_state(folder: Path, trainer: MASATrainer) -> None:
    """Write our state into a checkpoint folder; all processes gather it, the main one writes."""
    state = {name: part.state_dict() for name, part in _parts(trainer).items()}
    moments = trainer.expert.imitation(trainer).state_dict() if trainer.expert.has_imitated else None
    if not trainer.team.is_main:
        return
    if moments is not None:
        torch.save(moments, folder / EXPERT_OPTIMIZER_FILE)
    written = {
        "step": trainer.state.global_step,
        "sharding": sharding.kind(trainer.accelerator),
        "settings": _settings(trainer),
        **state,
    }
    atomic_write_text(folder / STATE_FILE, json.dumps(written))


def load_state(folder: str | os.PathLike[str], trainer: MASATrainer) -> None:
    """Read it back, and let the run folder forget what came after: later checkpoints, metrics and rollouts.

    Raises:
        UserError: if the checkpoint was not written by this trainer, or under other settings, which are named.
    """
    path = Path(folder) / STATE_FILE
    if not path.exists():
        raise UserError(f"{path.parent} holds no {STATE_FILE}: it is not a checkpoint of MASATrainer")
    state = json.loads(path.read_text(encoding="utf-8"))
    _refuse_other_settings(path, state, trainer)
    for name, part in _parts(trainer).items():
        try:
            part.load_state_dict(state[name])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: the state of {name} is not this version's ({error}): resume with the version that wrote it, "
                "or start anew from its weights"
            ) from error
    optimizer = Path(folder) / EXPERT_OPTIMIZER_FILE
    if optimizer.exists():
        trainer.expert.imitation(trainer).load_state_dict(torch.load(optimizer, weights_only=True))
    if trainer.run is not None:
        # Checkpoints first: a kill in between must not leave one whose steps the metrics have lost.
        for step, later in _whole(trainer.run.path):
            if step > int(state["step"]):
                shutil.rmtree(later)
        shutil.rmtree(trainer.run.path / _STAGING, ignore_errors=True)
        trainer.run.rewind(int(state["step"]))


def _settings(trainer: MASATrainer) -> dict[str, Any]:
    """What a resumed run must have in common with this one."""
    settings = trainer.args.resolved()
    return {name: value for name, value in settings.items() if name not in MAY_DIFFER}


def _refuse_other_settings(path: Path, state: dict[str, Any], trainer: MASATrainer) -> None:
    if "settings" not in state:
        return  # an older version's, whose parts are refused with a word of their own
    changed = differing(state["settings"], json.loads(json.dumps(plain(_settings(trainer)))))
    if changed:
        shown = "; ".join(changed[:6]) + ("; ..." if len(changed) > 6 else "")
        raise UserError(
            f"cannot resume from {path.parent}: {len(changed)} setting(s) differ ({shown}); use the same settings, or "
            "start anew from its weights"
        )


@contextmanager
def staged(trainer: MASATrainer, trial: Any) -> Iterator[Path]:
    """Let the body write `checkpoint-N` in a staging folder, then move it into place and delete old ones.

    transformers writes a checkpoint file by file and deletes old ones before a subclass has added its own; a kill
    in between would leave a checkpoint that looks whole.

    Raises:
        UserError: if the disk is full; older checkpoints are as they were.
    """
    final = Path(trainer._get_output_dir(trial=trial)) / f"checkpoint-{trainer.state.global_step}"
    staging = final.parent / _STAGING
    team = trainer.team
    team.first(lambda: shutil.rmtree(staging, ignore_errors=True))
    limit, directory = trainer.args.save_total_limit, trainer.args.output_dir
    trainer.args.save_total_limit, trainer.args.output_dir = None, str(staging)
    try:
        with team.not_waiting() if trainer.is_sharded else team.together():
            yield staging / final.name
            if str(trainer.state.best_model_checkpoint).startswith(str(staging)):
                trainer.state.best_model_checkpoint = str(final)
                if team.is_main:
                    trainer.state.save_to_json(str(staging / final.name / TRAINER_STATE_NAME))
        team.first(lambda: _sync(staging / final.name))  # what all processes have written
    except (Exception, CheckpointException) as error:
        message = _disk_full(error, staging / final.name, trainer) if disk.is_full(error) else None
        shutil.rmtree(staging, ignore_errors=True)
        if message is None:
            raise
        raise UserError(message) from error
    finally:
        trainer.args.save_total_limit, trainer.args.output_dir = limit, directory
    team.first(lambda: _move_into_place(staging, final, trainer))


def _move_into_place(staging: Path, final: Path, trainer: MASATrainer) -> None:
    """Give the checkpoint its name, then delete those that are one too many."""
    if final.exists():
        shutil.rmtree(final)
    (staging / final.name).replace(final)
    shutil.rmtree(staging, ignore_errors=True)
    rotate_checkpoints(
        output_dir=str(final.parent),
        save_total_limit=trainer.args.save_total_limit,
        best_model_checkpoint=trainer.state.best_model_checkpoint,
    )


def _sync(folder: Path) -> None:
    """Have every file on the disk before its folder gets its name: a loss of power must not empty a named one."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _disk_full(error: BaseException, folder: Path, trainer: MASATrainer) -> str:
    """The one line that a full disk gets."""
    output = folder.parent.parent
    written = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    named = getattr(error, "filename", None)
    file = Path(named).name if named else max(written, key=lambda path: path.stat().st_mtime_ns, default=folder).name
    held = sum(path.stat().st_size for path in written)
    last = latest(output)
    kept = f"the last good checkpoint is {last}, --resume goes on from it" if last else "there is no earlier checkpoint"
    return (
        f"disk full: {folder.name} could not be saved at {file} in {output}; it needs about "
        f"{disk.megabytes(_size(trainer))} and {disk.megabytes(disk.free(output) + held)} are free; {kept}"
    )


def _size(trainer: MASATrainer) -> int:
    """Bytes of a checkpoint, as near as its tensors tell."""
    tensors = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    if trainer._dist.zero_stage:  # which empties tensors, and keeps float32 weights and Adam's two moments to itself
        return sum(getattr(tensor, "ds_numel", tensor.numel()) * (tensor.itemsize + 12) for tensor in tensors)
    # Asked by the process that met the full disk, alone: nothing here may gather.
    states = [trainer.optimizer.state_dict()["state"].values()]
    if trainer.expert.has_imitated:
        states.append(trainer.expert.imitation(trainer).own_state)
    values = [value for kept in states for state in kept for value in state.values()]
    tensors += [value for value in values if isinstance(value, torch.Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def latest(folder: str | os.PathLike[str]) -> Path | None:
    """The newest whole checkpoint of a run folder, or None."""
    found = _whole(folder)
    return max(found)[1] if found else None


def _whole(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """Step and path of every whole checkpoint."""
    return [
        (int(path.name.removeprefix("checkpoint-")), path)
        for path in Path(folder).glob("checkpoint-*")
        if path.name.removeprefix("checkpoint-").isdigit() and (path / STATE_FILE).exists()
    ]


def to_resume(asked: str | bool | None, output: str, kind: str) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` means, True being the newest of the output folder; None for none.

    Args:
        kind: how weights are spread now (`sharding.kind`).

    Raises:
        UserError: if it is not there or not whole, or was made by a run whose weights were spread otherwise.
    """
    if not asked:
        return None
    path = latest(output) if asked is True else Path(str(asked))
    if path is None:
        raise UserError(f"{output} holds no whole checkpoint to resume from: start the run without resuming")
    if not (path / STATE_FILE).exists():
        raise UserError(f"{path} holds no {STATE_FILE}: it is not a checkpoint of MASATrainer")
    written = json.loads((path / STATE_FILE).read_text(encoding="utf-8")).get("sharding", kind)
    if written != kind:
        raise UserError(
            f"cannot resume from {path}: it was made with {written}, this run has {kind}: use the same launch config, "
            "or start anew from its weights"
        )
    return path


def step_of(folder: Path | None) -> int:
    """The step after which a checkpoint was made; 0 for none."""
    return 0 if folder is None else int(json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["step"])


def ledger_of(folder: Path) -> Ledger:
    """What a run had spent when a whole checkpoint was made."""
    ledger = Ledger()
    ledger.load_state_dict(json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))["ledger"])
    return ledger


@contextmanager
def only_tensors(folder: Path | None) -> Iterator[None]:
    """Says which checkpoint is at fault where loading met a pickle of more than tensors, which is never run.

    Raises:
        UserError: in place of torch's error.
    """
    try:
        yield
    except pickle.UnpicklingError as error:
        if folder is None:
            raise
        raise UserError(
            f"{folder} holds a file of more than tensors, which is not opened, since it could run anything: it was "
            "damaged or made by other hands; resume from another checkpoint"
        ) from error
