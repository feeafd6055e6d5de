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
from collections.abc import Callable, Sequence
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
    """Counts places where a kill would hurt, and dies at the n-th: of all, or of those of one name."""

    def __init__(self, fatal: int, name: str) -> None:
        self._left = fatal
        self._name = name

    def pass_by(self, name: str, before_death: Callable[[], Any] = lambda: None) -> None:
        self._left -= self._name in ("", name)
        if self._left == 0:
            self._left = -1  # what is done before death passes by here as well
            before_death()
            os._exit(KILLED)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if is_write or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            self.pass_by(event)

    def halved(self, write: Callable[..., Any], path_at: int) -> Callable[..., Any]:
        """A writer that may leave half of its file."""

        def written(*args: Any, **kwargs: Any) -> None:
            path = Path(args[path_at])
            write(*args, **kwargs)
            self.pass_by(
                f"half of {path.name}", lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            )

        return written

    def arm(self) -> None:
        """From here on, in this process, for ever."""
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            self.pass_by("sync")
            fsync(descriptor)

        append = masa.runs.folder.append_row

        def appended(path: Path, row: Any) -> None:
            line = encode_row(row)
            self.pass_by("half a line", lambda: path.open("ab").write(line[: len(line) // 2]))
            append(path, row)

        os.fsync = synced
        masa.runs.folder.append_row = appended
        torch.save = self.halved(torch.save, 1)
        transformers.modeling_utils.safe_save_file = self.halved(safetensors.torch.save_file, 1)
        sys.addaudithook(self.audit)


def live(make_trainer: MakeTrainer, run: Path, fatal: int, name: str = "") -> int:
    """Go on with the run in a process that dies at its n-th place (0: never); gives its exit code."""
    child = os.fork()
    if not child:
        _be_the_child(make_trainer, run, Places(fatal, name))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_the_child(make_trainer: MakeTrainer, run: Path, places: Places) -> NoReturn:
    code = 1
    try:
        places.arm()
        if latest(run) is None:
            shutil.rmtree(run, ignore_errors=True)  # before its first checkpoint a run starts anew
        trainer = make_trainer(**SETTINGS, **SAVING, output_dir=str(run))
        trainer.train(resume_from_checkpoint=latest(run) is not None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def killed_again_and_again(make_trainer: MakeTrainer, tmp_path: Path, deaths: Sequence[tuple[str, int]]) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    make_trainer(**SETTINGS, **SAVING, output_dir=str(whole)).train()
    for name, fatal in deaths:
        code = 0
        while code == 0:  # a run that came to its end before it died: from the start
            if latest(run) == run / f"checkpoint-{STEPS}":
                assert live(make_trainer, run, 0) == 0
                assert_equal(run, whole)
                shutil.rmtree(run)
            code = live(make_trainer, run, fatal, name)
        assert code == KILLED, "a run failed by itself when it was resumed"
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


NAMED = [
    ("half a line", 2),
    ("half of model.safetensors", 2),
    ("half a line", 1),
    ("half of optimizer.pt", 2),
    ("half of masa_expert_optimizer.pt", 2),
    ("os.rename", 1),
    ("os.rename", 6),
    ("os.remove", 9),
    ("os.rmdir", 2),
    ("sync", 3),
    ("sync", 9),
    ("os.mkdir", 3),
    ("open", 2),
]
"""Each kind of place, at the n-th time that a process comes by."""


def test_a_run_killed_where_it_writes_is_the_run_that_was_not(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    killed_again_and_again(make_trainer, tmp_path, NAMED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_where_it_writes_a_hundred_times(make_trainer: MakeTrainer, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    killed_again_and_again(make_trainer, tmp_path, [("", draw.randint(1, 120)) for _ in range(100)])
