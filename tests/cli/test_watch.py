"""`masa watch` as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main
from masa.runs import RunFolder

Capture = pytest.CaptureFixture[str]
SECONDS = 300.0
EVIL = "[red]x[/red]\x1b]0;pwned\x07\x1b[2J\u202e\x9b31m\r\b"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "LINES": "50", "TERM": "xterm-256color"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def masa(monkeypatch: pytest.MonkeyPatch, capsys: Capture, *arguments: Any) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["masa", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


def make_run(path: str | Path, steps: int = 5, *, is_finished: bool = False, text: str = "so \\boxed{7}") -> RunFolder:
    run = RunFolder.create(path, {"max_steps": 8, "model": "tiny " + text, "preset": "masa"})
    run.append_evaluation({"step": 0, "pass_at_1": 0.25, "brier": 0.3, "by_task": {}})
    common = {"problem": 3, "problem_text": f"3 + 4 {text}", "task": f"sum {text}"}
    prediction = {"pass_rate": 0.25, "length": 12, "notions": [text]}
    for step in range(1, steps + 1):
        metrics = {
            "phase": text if step == steps else "parallel",
            "pass_rate": 0.3 + step / 20,
            "reward/solution": 0.4,
            "reward/meta": 0.2,
            "groups/zero_variance_share": 0.5,
            "tokens/generated": 100 * step,
            "awareness/pass_rate_spearman": 0.1 * step,
            "time/step": 1.5,
        }
        rows = [
            common | {"role": "solution", "correct": i > 0, "length": 10 + i, "text": f"try {i} {text}"}
            for i in range(4)
        ]
        rows.append(common | {"role": "meta", "length": 5, "text": f"meta {text}", "prediction": prediction})
        run.write_step(step, metrics, {"seconds": {"rollout": step}}, rows)
    if is_finished:
        (run.path / "model").mkdir()
        (run.path / "model" / "config.json").touch()
    return run


def test_one_frame(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_run("run")
    code, out, err = masa(monkeypatch, capsys, "watch", "run", "--once")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "run  running  step 5/8, 500 tokens, 0:04 left"
    assert "model tiny so \\boxed{7}; preset masa; held out after step 0: pass_at_1 0.25, brier 0.30" in lines[1]
    assert re.search(r"phase +reward +pass rate", out)
    for title in ("pass rate  now 0.55  held out 0.25", "zero-variance groups", "Spearman", "tokens a step  now 100"):
        assert title in out
    assert re.search("[\u2801-\u28ff]", out)  # curves are drawn in dots
    told = "3 of 4 right, 1.0 foretold, right ones took 12 tokens, 12 tokens foretold"
    assert f"step 5, problem 3, sum so \\boxed{{7}}: {told}" in out
    assert "right, 11 tokens: try 1 so" in out
    assert "wrong, 10 tokens: try 0 so" in out
    assert "foretold, 5 tokens: meta so" in out


def test_one_object(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_run("run")
    code, out, err = masa(monkeypatch, capsys, "watch", "run", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert (found["state"], found["step"], found["max_steps"], found["tokens"]) == ("running", 5, 8, 500)
    assert found["seconds_left"] == 4.5
    assert found["metrics"]["pass_rate"] == 0.55
    assert found["evaluation"] == {"step": 0, "pass_at_1": 0.25, "brier": 0.3}
    assert [row["text"] for row in found["rollouts"][0]["rows"]][:1] == ["try 1 so \\boxed{7}"]


def test_before_the_first_step(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_run("run", 0)
    code, out, _ = masa(monkeypatch, capsys, "watch", "run", "--once")
    assert (code, out.startswith("run  waiting for its first step, silent for 0:0")) == (0, True)


def test_hostile_texts_stay_texts(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    make_run("run [red]\x1b[31m", text=EVIL, is_finished=True)
    for arguments in (["--once"], []):
        code, out, _ = masa(monkeypatch, capsys, "watch", "run [red]\x1b[31m", *arguments)
        assert code == 0
        assert "[red]" in out
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\b", "\r"} & set(out)
    code, out, _ = masa(monkeypatch, capsys, "watch", "run [red]\x1b[31m", "--json")
    assert json.loads(out)["rollouts"][0]["rows"][0]["text"] == f"try 1 {EVIL}"


def in_a_terminal(*arguments: str, until: bytes, then: signal.Signals | None = None) -> tuple[int, bytes]:
    """Exit code and all that was written to a terminal, which gets a signal once a text has come."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "masa.cli", "watch", *arguments], stdin=end, stdout=end, stderr=end, env=ENVIRONMENT
    )
    os.close(end)
    seen, deadline = b"", time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    seen += os.read(terminal, 65536)
                except OSError:  # the other end is closed
                    break
            if then is not None and until in seen:
                process.send_signal(then)
                then = None
        return process.wait(10), seen
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_a_terminal_is_painted_and_left_as_it_was() -> None:
    make_run("run", text=EVIL, is_finished=True)
    code, seen = in_a_terminal("run", until=b"")
    assert code == 0
    assert b"\x1b]0;" not in seen
    assert b"\xc2\x9b" not in seen
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
    assert b"finished" in seen.rpartition(b"\x1b[?1049l")[2]  # the last frame stays
    make_run("other")
    for number, expected in ((signal.SIGINT, 0), (signal.SIGTERM, 143)):
        code, seen = in_a_terminal("other", "--every", "0.2", until=b"problem 3", then=number)
        assert code == expected
        assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
        assert b"Traceback" not in seen


def test_a_real_run_is_followed_to_its_end(tmp_path: Path) -> None:
    settings = ["max_steps=3", "problems_per_step=2", "num_generations=2", "max_completion_length=40"]
    command = ["train", "--preset", "masa", "--output", "run", *(word for one in settings for word in ("--set", one))]
    small = ["--set", "heldout.data.size=4", "--set", "data.size=16", "--set", "save_strategy=no"]
    config = Path(__file__).parents[2] / "configs" / "tiny.yaml"
    log = tmp_path / "log"
    with log.open("wb") as file:
        train = subprocess.Popen(
            [sys.executable, "-m", "masa.cli", command[0], str(config), *command[1:], *small, "--max-tokens", "100000"],
            stdout=file,
            stderr=file,
            env=ENVIRONMENT,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not Path("run/config.yaml").exists():
            assert train.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watch = subprocess.run(
            [sys.executable, "-m", "masa.cli", "watch", "run", "--every", "0.1"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=ENVIRONMENT,
        )
        assert train.wait(SECONDS) == 0, log.read_text()
    finally:
        train.kill()
        train.wait()
    assert (watch.returncode, watch.stderr) == (0, "")
    lines = watch.stdout.splitlines()
    assert lines[-1].startswith("run  finished  step 3/3, ")
    assert "tokens of 100,000" in lines[-1]
    assert any("running  step " in line or "waiting for" in line for line in lines[:-1])


def test_a_comparison_has_a_line_a_run(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for name, steps in (("grpo-2", 3), ("grpo-10", 5), ("masa-0", 0)):
        make_run(f"all/runs/{name}", steps)
        Path(f"all/runs/{name}.yaml").touch()
    Path("all/runs/masa-1.yaml").touch()
    Path("all/results").mkdir()
    Path("all/results/grpo-2.json").touch()
    code, out, err = masa(monkeypatch, capsys, "watch", "all", "--once")
    assert (code, err) == (0, "")
    cells = [line.split() for line in out.splitlines()[2:]]
    assert cells == [
        ["grpo-2", "finished", "3/8", "-", "300", "0.45", "0.25", "0.30", "0.50"],
        ["grpo-10", "running", "5/8", "0:04", "500", "0.55", "0.25", "0.50", "0.50"],
        ["masa-0", "waiting", "0/8", "-", "0", "-", "0.25", "-", "-"],
        ["masa-1", "waiting", "-", "-", "-", "-", "-", "-", "-"],
    ]
    code, out, _ = masa(monkeypatch, capsys, "watch", "all", "--json")
    assert [run["state"] for run in json.loads(out)["runs"]] == ["finished", "running", "waiting", "waiting"]
    for name in ("grpo-10", "masa-0", "masa-1"):
        Path(f"all/results/{name}.json").touch()
    Path("all/comparison.json").touch()
    code, out, _ = masa(monkeypatch, capsys, "watch", "all")  # ends by itself, since all are done
    assert (code, len(out.splitlines())) == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "run folder none does not exist: check the path"),
        (["."], ". holds no run"),
        (["run", "--every", "0"], "--every 0: it must be at least 0.1 seconds"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    make_run("run")
    code, out, err = masa(monkeypatch, capsys, "watch", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
