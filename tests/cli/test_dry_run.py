"""`masa train --dry-run`: what it says, and that every shipped config passes the real loader without the network."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from masa.cli import main
from masa.cli.dry_run import find_shape, make_plan, read_expectations, show_plan
from masa.cli.job import Job, read_job
from masa.errors import UserError
from masa.scaling import Expectations
from masa.scaling.memory import GIB, LORA, ZERO_3

CONFIGS = Path(__file__).parents[2] / "configs"
PAGE = CONFIGS.parent / "docs" / "scaling.md"
RECIPES = sorted(CONFIGS.glob("qwen3-*.yaml"))
PAPERS = [path for path in RECIPES if "lora" not in path.name]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def _said(job: Job, expect: Expectations) -> str:
    out = StringIO()
    show_plan(make_plan(job, expect), Console(file=out, width=160))
    return out.getvalue()


def test_there_are_five_recipes() -> None:
    assert [path.stem for path in RECIPES] == [
        *("qwen3-0.6b-lora", "qwen3-1.7b-lora", "qwen3-14b", "qwen3-4b", "qwen3-8b"),
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_pass_the_loader_and_resolve_to_what_it_takes_again(path: Path, tmp_path: Path) -> None:
    job = read_job(path, {}, [])
    (tmp_path / "resolved.yaml").write_text(job.as_yaml())
    again = read_job(tmp_path / "resolved.yaml", {}, [])
    assert again.context() == job.context()
    assert again.args.workload() == job.args.workload()


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_recipes_have_the_papers_settings(path: Path) -> None:
    """Tables of both versions' experiments: see docs/scaling.md."""
    job = read_job(path, {}, [])
    args = job.args
    assert (args.problems_a_step, args.num_generations, args.max_steps) == (128, 16, 314)
    assert (args.temperature, args.top_p, args.top_k) == (1.0, 1.0, 0)
    assert (args.max_completion_length, args.max_prompt_length, args.max_meta_length) == (8192, 2048, None)
    assert (args.learning_rate, args.weight_decay, args.warmup_steps, args.max_grad_norm) == (1e-6, 0.1, 20, 1.0)
    assert (args.epsilon, args.epsilon_high, args.beta, args.entropy_coef) == (0.2, 0.28, 0.0, 0.0)
    assert (args.difficulty_base, args.gate, args.gate_std) == (0.01, "self", 0.1)
    assert job.data[0].source == "agentica-org/DeepScaleR-Preview-Dataset"
    if args.preset == "masa-efficient":
        assert (args.num_meta_generations, args.parallel_steps, args.cutoff_factor) == (16, 120, 2.0)
        assert (args.expert_sft, args.expert_buffer_size, args.expert_updates, args.hints) == (True, 128, 5, True)
    else:
        assert (args.preset, args.num_meta_generations, args.parallel_steps) == ("mapr-efficient", 8, 80)
        assert not args.expert_sft


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_fit_the_gpus_they_are_for(path: Path) -> None:
    job = read_job(path, {}, [])
    is_small = job.lora is not None
    plan = make_plan(job, Expectations(gpus=1 if is_small else 8, gpu_gib=24 if is_small else 80))
    (row,) = [memory for memory in plan.memory if memory.strategy == (LORA if is_small else ZERO_3)]
    assert row.fits(24 if is_small else 80), row


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_page_on_scaling_has_the_dry_runs_numbers(path: Path) -> None:
    job = read_job(path, {}, [])
    strategy, gpus = (ZERO_3, 8) if job.lora is None else (LORA, 1)
    (row,) = [memory for memory in make_plan(job, Expectations(gpus=gpus)).memory if memory.strategy == strategy]
    parts = (row.weights, row.optimizer, row.gradients, row.activations, row.rollout_copies, row.kv_cache, row.peak)
    cells = " | ".join(f"{size / GIB:.1f}" for size in parts)
    size = path.stem.split("-")[1].upper()
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| {size}, ")]
    assert cells in "\n".join(lines)


@pytest.mark.parametrize("name", ["qwen3-4b", "qwen3-8b"])
def test_the_page_on_scaling_has_the_dry_runs_savings(name: str) -> None:
    job = read_job(CONFIGS / f"{name}.yaml", {}, [])
    rates = Expectations(solution_tokens=2500, rollout_tokens_per_second=20_000, update_tokens_per_second=40_000)
    run = make_plan(job, rates).run
    assert run is not None
    seconds = run.seconds(rates)
    assert seconds is not None
    tokens = " | ".join(f"{part / 1e9:.2f} G" for part in (run.solutions, run.predictions, run.trained))
    nets = []
    for share in (0.2, 0.4, 0.6, 0.8):
        at_share = make_plan(job, replace(rates, zero_variance=share)).run
        assert at_share is not None
        nets.append(100 * at_share.net_share)
    (line,) = [line for line in PAGE.read_text().splitlines() if f"| {tokens} | {seconds / 3600:.0f} |" in line]
    assert [float(cell.removesuffix("%")) for cell in line.strip("| ").split(" | ")[-4:]] == pytest.approx(
        nets, abs=0.5
    )


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_recipes_say_how_they_are_launched_and_that_they_were_not(path: Path) -> None:
    head = path.read_text().partition("\npreset:")[0]
    for words in (f"configs/{path.name}", "--num_processes 8", "--num_machines 2 --num_processes 16", "NOT RUN"):
        assert words in head
    assert "configs/launch/fsdp2.yaml" in head


@pytest.mark.parametrize("path", sorted((CONFIGS / "launch").glob("*.yaml")), ids=lambda path: path.stem)
def test_launch_files_are_ones_that_accelerate_takes(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(path))
    if path.stem == "fsdp2":
        assert (found.distributed_type, found.fsdp_config["fsdp_version"]) == ("FSDP", 2)
    else:
        assert found.distributed_type == "DEEPSPEED"
        assert found.deepspeed_config["zero_stage"] == int(path.stem.removeprefix("zero"))


def test_a_dry_run_leaves_settings_on_standard_output_and_estimates_on_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    expect = ["--expect", "gpus=8", "--expect", "gpu_gib=80", "--expect", "rollout_tokens_per_second=1e4"]
    monkeypatch.setattr(sys, "argv", ["masa", "train", "--dry-run", str(CONFIGS / "qwen3-8b.yaml"), *expect])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert caught.value.code == 0, err
    assert yaml.safe_load(out)["num_meta_generations"] == 16
    for words in ("8.19 G parameters", "ZeRO-3 / FSDP2", "314 steps", "perfect gate", "an upper bound"):
        assert words in err, err
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    unknown = read_job(CONFIGS / "tiny.yaml", {"model": "someone/something", "preset": "grpo"}, ["max_steps=-1"])
    said = _said(unknown, Expectations())
    assert "the shape of someone/something is not known, since it is not in the local cache" in said
    assert "No time without --expect" in said
    assert "no predictions" in said
    assert "Saved of" not in said
    missing = read_job(CONFIGS / "tiny.yaml", {"model": "no/such/folder"}, [])
    assert "no/such/folder does not exist" in _said(missing, Expectations())
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(UserError, match="only types llama"):
        find_shape(str(tmp_path))


def test_budgets_end_runs_and_refill_is_not_reckoned_with() -> None:
    job = read_job(CONFIGS / "tiny.yaml", {"max_tokens": 9000, "preset": "masa"}, ["parallel_steps=never"])
    plan = make_plan(job, Expectations(solution_tokens=100, meta_tokens=40))
    assert plan.run is not None
    assert (plan.run.steps, plan.run.generated) == (4, 4 * 4 * 4 * 140)
    nothing = read_job(CONFIGS / "tiny.yaml", {"max_tokens": 0}, [])
    assert "0 steps" in _said(nothing, Expectations())
    refilled = read_job(CONFIGS / "tiny.yaml", {"preset": "dapo"}, ["parallel_steps=never"])
    assert "refill 'after' draws further problems" in _said(refilled, Expectations())


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("gpus", "--expect gpus: write key=value"),
        ("gpus=", "gpus is None"),
        ("gpu=8", "did you mean 'gpus'"),
        ("gpus=many", "gpus is 'many': it must be a whole number"),
        ("gpus=1.5", "gpus is 1.5: it must be a whole number"),
        ("gpu_gib=0", "gpu_gib is 0"),
        ("zero_variance=2", "zero_variance is 2"),
        ("gpus=[", "gpus is '\\['"),
    ],
)
def test_expectations_are_refused_in_one_line(assignment: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_expectations([assignment])


def test_expectations_without_a_dry_run_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["masa", "train", str(CONFIGS / "tiny.yaml"), "--expect", "gpus=8"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "add --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(("setting", "words"), [("r=0", "r is 0"), ("target_modules=[1]", r"target_modules is \[1\]")])
def test_adapters_that_mean_nothing_are_refused(setting: str, words: str) -> None:
    job = read_job(CONFIGS / "qwen3-0.6b-lora.yaml", {}, [f"lora.{setting}"])
    with pytest.raises(UserError, match=rf"lora\.{words}"):
        make_plan(job, Expectations())


def test_adapters_are_counted_where_they_are() -> None:
    def row(*settings: str) -> float:
        plan = make_plan(read_job(CONFIGS / "qwen3-0.6b-lora.yaml", {}, settings), Expectations())
        (found,) = [memory for memory in plan.memory if memory.strategy == LORA]
        return found.optimizer

    # 28 layers, 8 bytes of moments a parameter.
    assert row("lora.r=4", "lora.target_modules=[q_proj]") == 28 * 8 * 4 * (1024 + 2048)
    assert row("lora.r=4") > row("lora.r=4", "lora.target_modules=[q_proj]")
    unknown = read_job(CONFIGS / "qwen3-0.6b-lora.yaml", {}, ["lora.target_modules=.*proj"])
    assert "adapters are not counted" in _said(unknown, Expectations())
