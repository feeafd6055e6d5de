"""One process of a small run; torchrun starts as many as a test asks for.

    torchrun --nproc_per_node 2 team_run.py SETTINGS.json

The file holds settings of the trainer and, under `test`, what else to do. Weights are float64, the optimizer is plain
SGD: Adam would turn differences of rounding into whole steps.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
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


_ALL = (
    parity_of_length,
    raising_on_the_second_process,
    logging_columns,
    killing_the_second_processes_worker,
)
REWARDS = {f.__name__: f for f in _ALL}


def main() -> None:
    """Trains, then writes weights and logs of the main process, and what each process was given to learn from."""
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    test = settings.pop("test", {})
    if (kept := test.get("live_groups")) is not None:
        _let_pass(kept)
    tokenizer = byte_tokenizer()
    model = small_model(tokenizer, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = MASATrainer(
        model,
        REWARDS[test.get("reward", "parity_of_length")],
        args=MASAConfig(**SETTINGS | settings),
        train_dataset=sums(16),
        eval_dataset=sums(4),
        processing_class=tokenizer,
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    )
    rows: list[list[int]] = []
    build = trainer._micro_batches

    def noted(experience: Any) -> Any:
        batches = build(experience)
        rows.append([int(batch["completion_mask"].any(dim=1).sum()) for batch in batches])
        return batches

    trainer._micro_batches = noted  # type: ignore[method-assign]
    output = Path(settings["output_dir"])
    trainer.add_callback(_Signals([moment for rank, *moment in test.get("signals", []) if rank == trainer.team.rank]))
    try:
        trainer.train(resume_from_checkpoint=test.get("resume") and str(latest(output)))
    except Interrupted as left:
        (output / f"left-{trainer.team.rank}.txt").write_text(str(left))
        return
    if test.get("evaluate"):
        found = trainer.evaluate()
        if trainer.team.is_main:
            (output / "evaluation.json").write_text(json.dumps(found))
    (output / f"rows-{trainer.team.rank}.json").write_text(json.dumps(rows))
    if trainer.team.is_main:
        torch.save(model.state_dict(), output / "weights.pt")


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
