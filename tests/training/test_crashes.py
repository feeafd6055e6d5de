"""A run killed where it writes, again and again, is the run that was never killed.

A forked process dies, without a word and without cleaning up, at the n-th place where it opens a file to write,
renames, deletes, makes a folder or syncs, or in the middle of a line of metrics, of weights or of optimizer state.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors.torch
import torch
import transformers.modeling_utils
from run_contents import left_behind, tensors

import masa.runs.folder
from masa.runs.jsonlines import encode_row
from masa.training.checkpoint import latest
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]
KILLED = 137
STEPS = 5
SETTINGS = {"preset": "masa-efficient", "parallel_steps": 2, "expert_buffer_size": 3, "max_steps": STEPS}
SAVING = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.usefixtures("a_random_model_foretells"),
]


class Places:
    """Counts places where a kill would hurt, and dies at one of them."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def pass_by(self, before_death: Callable[[], Any] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            before_death()
            os._exit(KILLED)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if is_write or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            self.pass_by()

    def halved(self, write: Callable[..., Any], path_at: int) -> Callable[..., Any]:
        """A writer that may leave half of its file."""

        def written(*args: Any, **kwargs: Any) -> None:
            self.pass_by()
            write(*args, **kwargs)
            path = Path(args[path_at])
            self.pass_by(lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]))

        return written

    def arm(self) -> None:
        """From here on, in this process, for ever."""
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            self.pass_by()
            fsync(descriptor)

        append = masa.runs.folder.append_row

        def appended(path: Path, row: Any) -> None:
            line = encode_row(row)
            self.pass_by(lambda: path.open("ab").write(line[: len(line) // 2]))
            append(path, row)

        os.fsync = synced
        masa.runs.folder.append_row = appended
        torch.save = self.halved(torch.save, 1)
        transformers.modeling_utils.safe_save_file = self.halved(safetensors.torch.save_file, 1)
        sys.addaudithook(self.audit)


def live(make_trainer: MakeTrainer, run: Path, fatal: int) -> int:
    """Go on with the run in a process that dies at its n-th place (0: never); gives its exit code."""
    child = os.fork()
    if not child:
        _be_the_child(make_trainer, run, fatal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_the_child(make_trainer: MakeTrainer, run: Path, fatal: int) -> NoReturn:
    code = 1
    try:
        Places(fatal).arm()
        if latest(run) is None:
            shutil.rmtree(run, ignore_errors=True)  # before its first checkpoint a run starts anew
        trainer = make_trainer(**SETTINGS, **SAVING, output_dir=str(run))
        trainer.train(resume_from_checkpoint=latest(run) is not None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def killed_again_and_again(make_trainer: MakeTrainer, tmp_path: Path, deaths: int, *, furthest: int, seed: int) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    make_trainer(**SETTINGS, **SAVING, output_dir=str(whole)).train()
    draw = random.Random(seed)
    died = 0
    while died < deaths:
        if latest(run) == run / f"checkpoint-{STEPS}":  # nothing left to interrupt: once more
            assert_equal(run, whole)
            shutil.rmtree(run)
        code = live(make_trainer, run, draw.randint(1, furthest))
        assert code in (0, KILLED), f"a run resumed after {died} kills failed by itself"
        died += code == KILLED
    assert live(make_trainer, run, 0) == 0
    assert_equal(run, whole)
    assert not list(run.rglob(".*"))  # neither temporary files nor a staging folder are left
    assert sorted(path.name for path in run.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (STEPS - 1, STEPS)]


def assert_equal(run: Path, whole: Path) -> None:
    expected, found = left_behind(whole, STEPS), left_behind(run, STEPS)
    assert [row["step"] for row in found["metrics"]] == list(range(1, STEPS + 1))
    assert found == expected
    there, here = tensors(whole, STEPS), tensors(run, STEPS)
    assert there.keys() == here.keys()
    assert all(torch.equal(there[key], here[key]) for key in there)


def test_a_run_killed_where_it_writes_is_the_run_that_was_not(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    killed_again_and_again(make_trainer, tmp_path, deaths=12, furthest=100, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_where_it_writes_a_hundred_times(make_trainer: MakeTrainer, tmp_path: Path, seed: int) -> None:
    killed_again_and_again(make_trainer, tmp_path, deaths=100, furthest=120, seed=100 + seed)
