"""Runs of a comparison as processes, with a stand-in for `masa train` that needs no model."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from masa.cli.compare_plan import PlannedRun
from masa.cli.compare_runs import CONTINUE, FINISHED, START, Places, Stopped, run_all, state_of
from masa.errors import UserError

STAND_IN = """#!{python}
import json, os, pathlib, sys, time
import yaml
config, resume = sys.argv[4], "--resume" in sys.argv
values = yaml.safe_load(open(config))
folder = pathlib.Path(values["output"])
folder.mkdir(parents=True, exist_ok=resume)
with open(folder.parents[1] / "started.txt", "a") as file:
    file.write(folder.name + (" resumed" if resume else "") + "\\n")
print("working", os.environ["OMP_NUM_THREADS"], flush=True)
if values.get("fail"):
    sys.exit("\\x1b[31merror:\\x1b[0m the reward is broken")
time.sleep(values.get("sleep", 0))
rows = [dict(step=s, tokens=100 * s, seconds=1.0 * s, pass_at_1=0.1 * s, pass_rates=[0.1 * s] * 4) for s in (0, 1, 2)]
(folder / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
metrics = [{{"step": s, "tokens/generated": 100 * s, "tokens/live": 40 * s, "time/rollout": 0.5, "time/step": 9,
            "gate/precision": 0.5, "gate/precision_low": 0.25}} for s in (1, 2)]
(folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in metrics))
(folder / "ledger.json").write_text(json.dumps(dict(steps=2, policy_updates=2, solution_tokens=200)))
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(STAND_IN.format(python=sys.executable))
    script.chmod(0o755)
    monkeypatch.setattr("masa.cli.compare_runs.sys.executable", str(script))


def run(arm: str, seed: int = 0, **values: Any) -> PlannedRun:
    return PlannedRun(arm, seed, values | {"seed": seed}, {"preset": arm, "seed": seed} | values)


def make(runs: list[PlannedRun], output: Path, jobs: int = 2) -> tuple[list[str], str]:
    places = Places(output)
    said = io.StringIO()
    states = {r.name: state_of(places, r) for r in runs}
    return run_all(runs, states, places, jobs=jobs, console=Console(file=said, width=500)), said.getvalue()


def started(output: Path) -> list[str]:
    return (output / "started.txt").read_text().split("\n")[:-1]


def test_a_result_has_what_a_comparison_needs(tmp_path: Path) -> None:
    failures, said = make([run("grpo"), run("masa")], tmp_path / "out", jobs=1)
    assert failures == []
    assert started(tmp_path / "out") == ["grpo-0", "masa-0"]
    assert "[2/2] masa-0: done, pass@1 0.200 after 200 tokens and 2 s" in said
    result = json.loads((tmp_path / "out/results/grpo-0.json").read_text())
    assert result["curve"][1] == {
        "step": 1,
        "tokens": 100,
        "seconds": 1.0,
        "pass_at_1": 0.1,
        "live_tokens": 40,
        "awareness": {},
    }
    assert result["curve"][0]["live_tokens"] == 0
    assert result["by_step"] == {
        "step": [1, 2],
        "tokens": [100, 200],
        "seconds": [0.5, 1.0],
        "live_tokens": [40, 80],
    }
    assert result["gate"] == {"precision": 0.5, "precision_low": 0.25}
    assert (result["arm"], result["seed"], result["steps"], result["pass_rates"]) == ("grpo", 0, 2, [0.2] * 4)
    assert "working 1" in (tmp_path / "out/runs/grpo-0.log").read_text()


def test_a_failure_is_named_and_stops_no_other(tmp_path: Path) -> None:
    runs = [run("bad", fail=True), run("grpo")]
    failures, _ = make(runs, tmp_path / "out")
    assert failures == ["bad-0: failed (exit 1): error: the reward is broken"]
    assert [path.name for path in (tmp_path / "out/results").iterdir()] == ["grpo-0.json"]


def test_a_rerun_makes_only_what_is_missing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    runs = [run("grpo"), run("masa"), run("grpo", 1)]
    make(runs, output)
    (output / "results/masa-0.json").unlink()
    (output / "results/grpo-1.json").unlink()
    checkpoint = output / "runs/grpo-1/checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "masa_state.json").write_text("{}")
    (output / "started.txt").unlink()
    assert [state_of(Places(output), r) for r in runs] == [FINISHED, START, CONTINUE]
    make(runs, output, jobs=1)
    assert started(output) == ["masa-0", "grpo-1 resumed"]
    assert (output / "runs/grpo-1.log").read_text().count("working") == 2


def test_a_result_of_other_settings_is_refused(tmp_path: Path) -> None:
    make([run("grpo", learning_rate=0.1)], tmp_path / "out")
    with pytest.raises(UserError, match=r"grpo-0.json is of other settings \(learning_rate: 0.1 there, 0.2 now\)"):
        state_of(Places(tmp_path / "out"), run("grpo", learning_rate=0.2))
    (tmp_path / "out/results/grpo-0.json").write_text("{")
    with pytest.raises(UserError, match="delete it"):
        state_of(Places(tmp_path / "out"), run("grpo"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out/runs/grpo-0").mkdir(parents=True)
    with pytest.raises(UserError, match="not of this comparison"):
        state_of(Places(tmp_path / "out"), run("grpo"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_processes_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    output = tmp_path / "out"
    before = signal.getsignal(number)

    def interrupt() -> None:
        while not (output / "started.txt").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Stopped) as caught:
        make([run("slow", sleep=60), run("slow", 1, sleep=60)], output, jobs=1)
    thread.join()
    assert caught.value.number == number
    assert time.monotonic() - began < 15
    assert started(output) == ["slow-0"]
    assert list((output / "results").iterdir()) == []
    assert signal.getsignal(number) is before


def test_two_comparisons_do_not_work_in_one_folder(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with (output / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another masa compare"):
            make([run("grpo")], output)
    assert make([run("grpo")], output)[0] == []
