"""One process of a small run; torchrun starts as many as a test asks for.

    torchrun --nproc_per_node 2 team_run.py SETTINGS.json

The file holds settings of the trainer and, under `test`, what else to do. Weights are float64 unless it says otherwise.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import sharding_on_cpu
import torch
from peft import LoraConfig
from small_run import SETTINGS, byte_tokenizer, first_as_expert, foretold, parity_of_length, small_model, sums
from transformers import TrainerCallback

import masa.training.imitation
import masa.training.sampler
from masa.awareness import Gate
from masa.errors import Interrupted
from masa.training.checkpoint import latest
from masa.training.config import MASAConfig
from masa.training.trainer import MASATrainer

masa.training.sampler.parse_prediction = foretold
masa.training.imitation.make_expert = first_as_expert


def raising_on_the_second_process(completions: list[Any], **_: Any) -> list[float]:
    """A reward function that fails where this process is the second one."""
    if os.environ.get("RANK") == "1":
        raise ZeroDivisionError("no such luck")
    return parity_of_length(completions)


SMOOTH = {"optim": "adamw_torch", "adam_epsilon": 1.0, "learning_rate": 0.05, "expert_learning_rate": 1e-4}
"""Adam far from its sign-like steps, which would turn differences of rounding into whole ones."""


def logging_columns(completions: list[Any], log_extra: Any, **_: Any) -> list[float]:
    """A reward function that logs of each completion, of some calls alone, and what fits no table."""
    texts = [completion[0]["content"] for completion in completions]
    log_extra("shouted", [text.upper() for text in texts])
    log_extra("too_few", [])
    if any("a" in text for text in texts):
        log_extra("a_count", [text.count("a") for text in texts])
    return parity_of_length(completions)


def killing_the_second_processes_worker(completions: list[Any], **_: Any) -> list[float]:
    """A reward function that leaves the second process without its vLLM."""
    if os.environ.get("RANK") == "1":
        for worker in psutil.Process().children():
            worker.kill()
    return parity_of_length(completions)


def nothing_to_learn_at_step_2(completions: list[Any], trainer_state: Any, **_: Any) -> list[float]:
    """A reward function that is the same for all in one step."""
    return [0.0] * len(completions) if trainer_state.global_step == 1 else parity_of_length(completions)


_ALL = (
    parity_of_length,
    raising_on_the_second_process,
    logging_columns,
    killing_the_second_processes_worker,
    nothing_to_learn_at_step_2,
)
REWARDS = {f.__name__: f for f in _ALL}


def main() -> None:
    """Trains, then writes weights and logs of the main process, and what each process was given to learn from."""
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    test = settings.pop("test", {})
    if (kept := test.get("live_groups")) is not None:
        _let_pass(kept)
    if "full_disk_of" in test and os.environ["RANK"] == test["full_disk_of"]:
        torch.save = _fill_disk
    if (launched_as := test.get("launch")) is not None:
        sharding_on_cpu.launch(**launched_as)
    tokenizer = byte_tokenizer()
    model = small_model(tokenizer, dtype=getattr(torch, test.get("dtype", "float64")))
    trainer = MASATrainer(
        model,
        REWARDS[test.get("reward", "parity_of_length")],
        args=MASAConfig(**SETTINGS | SMOOTH | settings),
        train_dataset=sums(16),
        eval_dataset=sums(4),
        processing_class=tokenizer,
        peft_config=LoraConfig(**test["lora"]) if "lora" in test else None,
    )
    rows: list[list[int]] = []
    build = trainer._micro_batches

    def noted(experience: Any) -> Any:
        batches = build(experience)
        rows.append([int(batch["completion_mask"].any(dim=1).sum()) for batch in batches])
        return batches

    trainer._micro_batches = noted  # type: ignore[method-assign]
    if (step := test.get("spoilt_step")) is not None:
        _spoil(trainer, step)
    output = Path(settings["output_dir"])
    trainer.add_callback(_Signals([moment for rank, *moment in test.get("signals", []) if rank == trainer.team.rank]))
    try:
        trainer.train(resume_from_checkpoint=test.get("resume") and str(latest(output)))
    except Interrupted as left:
        (output / f"left-{trainer.team.rank}.txt").write_text(str(left))
        return
    if test.get("save_model"):
        trainer.save_model(str(output / "model"))
    if test.get("evaluate"):
        found = trainer.evaluate()
        if trainer.team.is_main:
            (output / "evaluation.json").write_text(json.dumps(found))
    (output / f"rows-{trainer.team.rank}.json").write_text(json.dumps(rows))
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.team.is_main:
        torch.save(state, output / "weights.pt")
    trainer.team.leave()


def _spoil(trainer: MASATrainer, step: int) -> None:
    """Have the last process's loss of a step be no number."""
    compute = trainer.compute_loss

    def spoilt(*args: Any, **kwargs: Any) -> Any:
        loss = compute(*args, **kwargs)
        is_spoilt = trainer.state.global_step == step - 1 and trainer.team.rank == trainer.team.size - 1
        return loss * float("nan") if is_spoilt else loss

    trainer.compute_loss = spoilt  # type: ignore[method-assign]


def _fill_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class _Signals(TrainerCallback):  # type: ignore[misc]
    """Sends this process SIGTERM at some moments, each an event of the trainer's and the steps done by then."""

    def __init__(self, moments: list[list[Any]]) -> None:
        self._moments = moments

    def _send(self, event: str, state: Any) -> None:
        if [event, state.global_step] in self._moments:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._send("begin", state)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._send("save", state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._send("end", state)


def _let_pass(count: int) -> None:
    """Have the gate roll out the first `count` problems of every step and no other."""
    decide = Gate.decide

    def decided(self: Gate, step: int, keys: Any, estimates: Any, **kwargs: Any) -> Any:
        kwargs["skips"] = [place >= count for place in range(len(keys))]
        return decide(self, step, keys, estimates, **kwargs)

    Gate.decide = decided  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
