"""`masa` as a user runs it: in a process of its own, on the bundled model, with the mistakes users make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from masa.cli import main

ROOT = Path(__file__).parents[2]


def settings(**values: Any) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


QUICK = [
    *settings(max_steps=2, parallel_steps=1, problems_per_step=2, num_generations=2, max_completion_length=64),
    *("--set", "heldout.data.size=4", "--set", "heldout.solutions=2"),
    *("--set", "heldout.transfer={source: bundled, size: 3, split: heldout, config: {tasks: [gcd]}}"),
]
OFTEN = [*settings(save_strategy="steps", save_steps=1), "--set", "heldout.every=1"]


def masa(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "masa.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"} | environment,
    )


def refused(arguments: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets, from this process: starting a new one takes seconds each."""
    monkeypatch.setattr(sys, "argv", ["masa", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit) as caught:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2, lines
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_a_run_from_config_to_report_and_its_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = masa("train", ROOT / "configs/tiny.yaml", "--output", "run", *QUICK, *OFTEN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert str(Path("run") / "report.html") in done.stderr.splitlines()[-1]
    evaluations = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in evaluations] == [0, 1, 2]
    assert all(0 <= row["pass_at_1_low"] <= row["pass_at_1"] <= row["pass_at_1_high"] <= 1 for row in evaluations)
    assert all(row["transfer_problems"] == 3 and row["problems"] == 4 for row in evaluations)
    assert all({task.split("/")[0] for task in row["transfer_by_task"]} == {"gcd"} for row in evaluations)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert (run / "report.html").stat().st_size > 100_000
    assert (run / "checkpoint-2" / "model.safetensors").exists()
    assert (run / "model" / "model.safetensors").exists()
    assert f"| {100 * evaluations[-1]['pass_at_1']:.1f} % (" in (run / "model" / "README.md").read_text()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == "bundled"
    assert config["run"]["versions"]["trl"].startswith("1.16")

    monkeypatch.chdir(tmp_path)
    again = refused(["train", ROOT / "configs/tiny.yaml", "--output", "run", *QUICK], monkeypatch, capsys)
    assert "holds another run" in again
    assert "--resume" in again
    spent = json.loads((run / "ledger.json").read_text())["generated_tokens"]
    more = [*QUICK, *OFTEN, *settings(max_steps=9), "--max-tokens", str(spent + 1)]  # reached after one more step
    resumed = masa("train", ROOT / "configs/tiny.yaml", "--output", "run", *more, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]

    # Resumed once more, as after a kill between the last step and the report, it trains no further.
    weights = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    monkeypatch.setattr(
        sys, "argv", ["masa", "train", str(ROOT / "configs/tiny.yaml"), "--output", "run", *more, "--resume"]
    )
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert (run / "model" / "model.safetensors").read_bytes() == weights

    # The run's model is measured as the run measured it: on what it held out, with the same seeds.
    measured = masa("eval", "run", "--n", "2", "--json", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    last = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    (found,) = json.loads(measured.stdout)["sets"]
    assert (found["mean_at_n"]["value"], found["length"]["mean"]) == (last["pass_at_1"], last["mean_length"])

    for checkpoint in run.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    lost = refused(["train", ROOT / "configs/tiny.yaml", "--output", "run", *more, "--resume"], monkeypatch, capsys)
    assert "3 steps but no checkpoint" in lost
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3  # nothing was erased


def test_own_data_and_own_reward(tmp_path: Path) -> None:
    rows = [{"question": f"{i} + 1", "gold": str(i + 1)} for i in range(8)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "rewards.py").write_text(
        "def short(completions, gold, **_):\n    return [float(len(c[0]['content']) % 2) for c in completions]\n"
    )
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump(
            {
                "preset": "masa",
                "data": {"source": "sums.jsonl", "problem_column": "question", "answer_column": "gold"},
                "problems_per_step": 2,
                "num_generations": 2,
                "max_steps": 1,
                "max_completion_length": 16,
                "min_solution_length": 4,
                "meta_prompt": "brief",
                "save_strategy": "no",
            }
        )
    )
    done = masa("train", "run.yaml", "--reward", "rewards:short", "--set", "show_completions_every=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "runs/masa/metrics.jsonl").read_text())
    assert "reward_function/short" in row
    assert "solution (reward" in done.stderr


def test_dry_run_prints_the_resolved_settings_and_touches_nothing(tmp_path: Path) -> None:
    done = masa("train", "--dry-run", "--preset", "mapr", *settings(parallel_steps="never"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert (resolved["preset"], resolved["num_meta_generations"], resolved["epsilon_high"]) == ("mapr", 4, 0.28)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own.jsonl").write_text('{"problem": "1 + 1", "answer": "2"}')
    own = masa("train", "--dry-run", "--preset", "grpo", "--data", "own.jsonl", cwd=tmp_path)
    assert yaml.safe_load(own.stdout)["heldout"]["data"] == []  # the default run's say nothing about other data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "lerning_rate=1"], ["lerning_rate", "in --set", "learning_rate"]),
        (["--preset", "masa-eficient"], ["masa-efficient"]),
        (["--set", "num_generations=1"], ["at least 2"]),
        (["--set", "save_strategy=sometimes"], ["sometimes", "steps"]),
        (["--set", "num_meta_generations=1"], ["num_meta_generations is 1"]),
        (["--set", "num_meta_generations=0"], ["cutoff", "needs predictions"]),
        (["--set", "max_steps=abc"], ["max_steps is 'abc'", "whole number"]),
        (
            ["--set", "learning_rate=fast", "--set", "hints=7"],
            ["learning_rate is 'fast'", "hints is 7", "true or false"],
        ),
        (["--set", "temperature=0"], ["temperature is 0", "above 0"]),
        (["--set", "lora.r=0"], ["`r` should be a positive integer"]),
        (["--preset", "grpo", "--set", "beta=0.04", "--set", "heldout=null"], ["does not serve beta > 0"]),
        (["--set", "prompt=7"], ["prompt is 7", "a text"]),
        (["--set", "heldout.solutions=0"], ["heldout.solutions is 0"]),
        (["--set", "max_minutes=soon"], ["max_minutes is 'soon'", "a number"]),
        (["--model", "no/such/model"], ["no/such/model", "does not exist"]),
        (["--model", "smollm2-135m"], ["masa models get smollm2-135m"]),
        (["--data", "none.jsonl"], ["none.jsonl"]),
        (["--data", "reasoning_gym:chain_summ"], ["chain_sum"]),
        (["--data", "math500"], ["no training split", "train on gsm8k, math, deepscaler"]),
        (["--set", "data={source: gsm8k, problem_column: question}"], ["data gsm8k", "no problem_column"]),
        (["--reward", "nowhere:reward"], ["nowhere"]),
        (["--reward", "nothing"], ["module:function"]),
        (["missing.yaml"], ["missing.yaml"]),
        (["--set", "data.sise=3"], ["sise", "size"]),
        ([str(ROOT / "configs" / "compare.yaml")], ["compare.yaml", "arms", "masa compare"]),
        (["--resume"], ["no run to resume"]),
    ],
)
def test_mistakes_get_one_line_with_place_and_remedy(
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASA_CACHE", str(tmp_path / "cache"))
    line = refused(["train", "--output", "run", *arguments], monkeypatch, capsys)
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"problem": "1 + 1", "answer": ', ["line 2", "JSON"]),
        ('{"problem": "1 + 1"}', ["line 2", "answer"]),
        ('{"problem": "1 + 1", "answer": ""}', ["line 2", "answer", "empty"]),
        ('{"problem": 7, "answer": "2"}', ["line 2", "problem"]),
    ],
)
def test_faulty_rows_are_named_by_file_line_and_field(
    tmp_path: Path,
    line: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"problem": "2 + 2", "answer": "4"}\n' + line + "\n")
    monkeypatch.chdir(tmp_path)
    said = refused(["train", "--output", "run", "--data", "rows.jsonl"], monkeypatch, capsys)
    assert [word for word in ["rows.jsonl", *words] if word not in said] == []
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_training_on_a_benchmark_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    for split, size, first in (("train", 6, 1), ("test", 3, 50)):
        rows = [{"question": f"{n} and {n}?", "answer": f"so\n#### {2 * n}"} for n in range(first, first + size)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    quick = settings(max_steps=1, problems_per_step=2, num_generations=2, max_completion_length=64, report_to="none")
    held_out = ("--set", "heldout={data: gsm8k, solutions: 1, predictions: 1}")
    done = masa("train", "--data", "gsm8k", "--output", "run", *quick, *held_out, cwd=tmp_path, MASA_DATA="data")
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (config["data"], config["heldout"]["data"]) == ([{"source": "gsm8k"}], [{"source": "gsm8k"}])
    (before, after) = map(json.loads, (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines())
    assert before["problems"] == after["problems"] == 3
    again = masa("eval", "run", "--n", "1", "--json", cwd=tmp_path, MASA_DATA="data")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["sets"][0]["problems"] == 3


def test_every_shipped_config_parses() -> None:
    from masa.cli.compare_plan import read_plan
    from masa.cli.data_source import DEFAULT_CONFIG, read_yaml
    from masa.cli.job import read_job

    paths = [*sorted((ROOT / "configs").glob("*.yaml")), DEFAULT_CONFIG]
    assert len(paths) >= 4
    for path in paths:
        if "arms" in read_yaml(path):
            assert len(read_plan(path, []).runs) > 1
        else:
            assert read_job(path, {"output": "unused"}, []).args.problems_a_step > 0


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = masa("--help", cwd=tmp_path)
    assert done.returncode == 0
    for command in ("train", "report", "models", "tiny"):
        assert command in done.stdout
