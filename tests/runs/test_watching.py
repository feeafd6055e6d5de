"""A run watched by its files while somebody else writes them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from masa.errors import UserError
from masa.runs import RunFolder
from masa.runs.watching import State, Watch


def new_run(path: Path, budget: dict[str, float] | None = None, **settings: Any) -> RunFolder:
    return RunFolder.create(path, {"max_steps": 10} | settings, budget=budget)


def write(run: RunFolder, *steps: int, **metrics: Any) -> None:
    for step in steps:
        row = {"pass_rate": step / 10, "tokens/generated": 100 * step, "time/step": 2.0, "unknown": 1} | metrics
        run.write_step(step, row, {"generated_tokens": 100 * step, "seconds": {"rollout": 3.0 * step}}, [])


def age(path: Path, seconds: float) -> None:
    """Everything was written so long ago."""
    then = time.time() - seconds
    for entry in [path, *path.rglob("*")]:
        os.utime(entry, (then, then))


def test_what_a_run_is_doing(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    waiting = watch.look()
    assert (waiting.state, waiting.step, waiting.left, waiting.max_steps) == (State.WAITING, 0, None, 10)
    write(run, 1, 2)
    running = watch.look()
    assert (running.state, running.step, running.tokens, running.seconds) == (State.RUNNING, 2, 200, 6.0)
    assert running.silent < 30
    age(run.path, 50)
    assert watch.look().state is State.RUNNING
    age(run.path, 70)
    stale = watch.look()
    assert (stale.state, stale.left) == (State.STALE, None)
    assert 69 < stale.silent < 100
    (run.path / "checkpoint-2").mkdir()
    age(run.path, 70)
    assert watch.look().state is State.STOPPED
    write(run, 3)  # it goes on
    assert watch.look().state is State.RUNNING
    age(run.path, 70)
    assert watch.look().state is State.STALE
    (run.path / "report.html").touch()  # somebody else's
    assert watch.look().state is State.STALE
    (run.path / "model").mkdir()
    (run.path / "model" / "config.json").touch()
    assert watch.look().state is State.FINISHED
    write(run, 4)  # continued with more steps
    os.utime(run.path / "model" / "config.json", (1, 1))
    assert watch.look().state is State.RUNNING


def test_a_run_of_slow_steps_may_be_silent_for_longer(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    write(run, 1, **{"time/step": 60.0})
    age(run.path, 590)
    assert Watch(run.path).look().state is State.RUNNING
    age(run.path, 610)
    assert Watch(run.path).look().state is State.STALE
    write(run, 10)  # all of them, by somebody who saves no model
    age(run.path, 610)
    assert Watch(run.path).look().state is State.FINISHED


def test_half_a_line_is_none_yet(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    write(run, 1)
    with run.metrics_path.open("ab") as file:
        line = b'{"step": 2, "pass_rate": 0.5}\n'
        for at in range(len(line)):
            assert watch.look().step == 1
            file.write(line[at : at + 1])
            file.flush()
    assert watch.look().step == 2
    assert watch.look().series("pass_rate") == ([1, 2], [0.1, 0.5])


def test_a_rewind_is_followed(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    write(run, *range(1, 6))
    before = watch.look()
    run.rewind(2)
    assert watch.look().series("pass_rate") == ([1, 2], [0.1, 0.2])
    for _ in range(3):  # a longer file than the one that was seen, at any number a file system gives it
        run.rewind(2)
        write(run, *range(3, 9), pass_rate=0.9)
        assert watch.look().series("pass_rate") == ([*range(1, 9)], [0.1, 0.2] + [0.9] * 6)
    assert before.series("pass_rate")[0] == [1, 2, 3, 4, 5]  # what was seen stays
    # The same in place, where only the steps can tell.
    data = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(data + data)
    assert watch.look().step == 8


def test_rollouts_are_the_last_steps_even_while_a_rewind_takes_them(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    assert watch.look().rollouts_step is None
    for step in (1, 2):
        run.write_rollouts(step, [{"step": step}])
    assert (watch.look().rollouts_step, watch.look().rollouts) == (2, [{"step": 2}])
    run.rewind(1)
    assert (watch.look().rollouts_step, watch.look().rollouts) == (1, [{"step": 1}])
    run.write_rollouts(1, [{"step": 1, "again": True}])
    assert watch.look().rollouts == [{"step": 1, "again": True}]


def test_the_first_limit_that_will_be_reached_tells_the_time_left(tmp_path: Path) -> None:
    def left(name: str, budget: dict[str, float] | None = None, **settings: Any) -> float | None:
        run = new_run(tmp_path / name, budget, **settings)
        write(run, 1, 2, 3, epoch=0.5)
        return Watch(run.path).look().left

    assert left("steps") == 7 * 2.0
    assert left("tokens", {"max_tokens": 500}) == 2 * 2.0  # 100 tokens a step, 300 spent
    assert left("minutes", {"max_minutes": 0.2}) == 12 - 9.0
    assert left("over", {"max_minutes": 0.1}) == 0
    assert left("epochs", max_steps=-1, num_train_epochs=1) == 3 * 2.0
    assert left("nothing", max_steps=-1) is None


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", model="x")
    with run.metrics_path.open("w") as file:
        file.write('{"step": 1, "pass_rate": "\\u001b[2J", "time/step": NaN, "phase": 7}\n{"pass_rate": 1}\n')
    seen = Watch(run.path).look()
    assert seen.metrics == [{"step": 1, "phase": "7"}]
    assert (seen.settings["model"], "run" in seen.settings) == ("x", False)


def test_damage_is_named_by_its_line(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    write(run, 1, 2)
    watch.look()
    with run.metrics_path.open("a") as file:
        file.write('{"step": 3}\n[]\n{"step": 5}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 4: not a JSON object"):
        watch.look()


def test_no_run_and_a_run_that_goes_away(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Watch(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        Watch(tmp_path / "empty")
    run = new_run(tmp_path / "run")
    watch = Watch(run.path)
    shutil.rmtree(run.path)
    with pytest.raises(UserError, match="does not exist"):
        watch.look()
