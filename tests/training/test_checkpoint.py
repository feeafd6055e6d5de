"""Checkpoints that meet a full disk or foreign hands, and signals in the middle of training."""

from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers.modeling_utils
from run_contents import left_behind
from small_run import parity_of_length

from masa.errors import Interrupted, UserError
from masa.runs import RunFolder
from masa.training import checkpoint
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]
SAVING = {"preset": "grpo", "save_strategy": "steps", "save_steps": 1}


# A full disk


def writes_half(path: Path) -> None:
    path.write_bytes(b"half")


def torch_is_full(state: Any, path: Path, *_: Any, **__: Any) -> None:
    writes_half(Path(path))
    # torch's own words, which keep no errno
    raise RuntimeError("[enforce fail at inline_container.cc:677] . PytorchStreamWriter failed: file write failed")


def safetensors_is_full(tensors: Any, path: Path, **_: Any) -> None:
    writes_half(Path(path))
    raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def text_is_full(path: Path, text: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.mark.parametrize(
    ("where", "writer", "file"),
    [
        (torch, {"save": torch_is_full}, r"\w+\.(pt|pth|bin)"),
        (transformers.modeling_utils, {"safe_save_file": safetensors_is_full}, "model.safetensors"),
        (checkpoint, {"atomic_write_text": text_is_full}, "masa_state.json"),
    ],
)
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(
    make_trainer: MakeTrainer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    where: Any,
    writer: dict[str, Any],
    file: str,
) -> None:
    make_trainer(**SAVING, max_steps=4, output_dir=str(tmp_path / "whole")).train()
    trainer = make_trainer(**SAVING, save_total_limit=1, max_steps=4)

    def fills_up(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            for name, function in writer.items():
                monkeypatch.setattr(where, name, function)

    trainer.step_listeners.append(fills_up)
    with pytest.raises(UserError) as caught:
        trainer.train()
    last = tmp_path / "run" / "checkpoint-2"
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith("disk full: checkpoint-3 could not be saved at ")
    assert re.search(rf"saved at {file} in ", words)
    size = sum(path.stat().st_size for path in last.iterdir() if path.suffix in (".safetensors", ".pt"))
    needed = float(words.partition("needs about ")[2].partition(" MB")[0])
    assert needed == pytest.approx(size / 1e6, abs=0.1)
    assert f"the last good checkpoint is {last}" in words
    assert checkpoint.latest(tmp_path / "run") == last
    assert not (tmp_path / "run" / ".staging").exists()

    monkeypatch.undo()
    make_trainer(**SAVING, save_total_limit=1, max_steps=4).train(resume_from_checkpoint=True)
    assert left_behind(tmp_path / "run", 4) == left_behind(tmp_path / "whole", 4)


def test_other_errors_while_saving_stay_what_they_are(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cannot pickle this")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="cannot pickle this"):
        make_trainer(**SAVING).train()
    assert not (tmp_path / "run" / ".staging").exists()
    assert checkpoint.latest(tmp_path / "run") is None


def test_a_staging_folder_that_a_kill_left_is_not_in_the_way(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(**SAVING, max_steps=1).train()
    stale = tmp_path / "run" / ".staging" / "checkpoint-2"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    trainer = make_trainer(**SAVING | {"save_strategy": "no"}, max_steps=2)
    trainer.train(resume_from_checkpoint=True)
    assert not stale.parent.exists()
    assert trainer.state.global_step == 2


# Foreign hands


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


READ = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "masa_expert_optimizer.pt", "pytorch_model.bin")


@pytest.mark.parametrize("name", [*READ, "training_args.bin"])
@pytest.mark.parametrize("write", [torch.save, lambda planted, path: path.write_bytes(pickle.dumps(planted, 2))])
def test_no_pickle_runs_when_a_checkpoint_is_loaded(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, write: Any
) -> None:
    make_trainer(**SAVING, max_steps=1).train()
    folder, marker = tmp_path / "run" / "checkpoint-1", tmp_path / "it ran"
    write({"state": Malicious(marker)}, folder / name)
    trainer = make_trainer(**SAVING, max_steps=2)
    if name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()  # beside it the file is not looked at
    if name in READ:
        with pytest.raises(UserError, match="checkpoint-1 holds a file of more than tensors"):
            trainer.train(resume_from_checkpoint=True)
    else:
        trainer.train(resume_from_checkpoint=True)
    assert not marker.exists()


def test_the_planted_pickle_would_run(tmp_path: Path) -> None:
    torch.save(Malicious(tmp_path / "it ran"), tmp_path / "planted.pt")
    torch.load(tmp_path / "planted.pt", weights_only=False)
    assert (tmp_path / "it ran").exists()


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_a_signal_finishes_the_step_saves_and_leaves(
    make_trainer: MakeTrainer, tmp_path: Path, capfd: pytest.CaptureFixture[str], number: int, strategy: str
) -> None:
    settings: dict[str, Any] = {"preset": "masa", "save_strategy": strategy, "save_steps": 50, "max_steps": 4}
    make_trainer(**settings | {"save_strategy": "steps"}, output_dir=str(tmp_path / "whole")).train()

    def interrupting(completions: Any, trainer_state: Any, **_: Any) -> list[float]:
        if trainer_state.global_step == 1:  # in the middle of the second step
            os.kill(os.getpid(), number)
        return parity_of_length(completions)

    interrupting.__name__ = parity_of_length.__name__
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    trainer = make_trainer(interrupting, **settings)
    with pytest.raises(Interrupted, match=r"after step 2: checkpoint-2 is saved in .*run, --resume goes on") as caught:
        trainer.train()
    assert caught.value.code == 128 + number
    assert signal.Signals(number).name in str(caught.value)
    assert "finishing this step" in capfd.readouterr().err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert [row["step"] for row in RunFolder.open(tmp_path / "run").read_metrics()] == [1, 2]

    resumed = make_trainer(**settings | {"save_strategy": "steps"})
    resumed.train(resume_from_checkpoint=True)
    assert left_behind(tmp_path / "run", 4) == left_behind(tmp_path / "whole", 4)


def test_a_signal_s_checkpoint_outlives_a_limit_of_one_beside_the_best(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer(**SAVING, save_total_limit=1, max_steps=4)

    def choose(row: dict[str, Any]) -> None:
        trainer.state.best_global_step = 1
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.step_listeners.append(choose)
    with pytest.raises(Interrupted):
        trainer.train()
    found = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert found == ["checkpoint-1", "checkpoint-2"]


def test_a_second_signal_leaves_at_once(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def twice(completions: Any, **_: Any) -> list[float]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("this is not reached")

    trainer = make_trainer(twice, **SAVING)
    with pytest.raises(Interrupted, match="at once, for the second time") as caught:
        trainer.train()
    assert caught.value.code == 130
    assert RunFolder.open(tmp_path / "run").read_metrics() == []
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_training_in_another_thread_leaves_signals_alone(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="grpo", max_steps=1)
    thread = threading.Thread(target=trainer.train)
    thread.start()
    thread.join()
    assert trainer.state.global_step == 1
