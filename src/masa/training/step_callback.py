"""When transformers' loop, which trains, hands control back to `MASATrainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from masa.training.trainer import MASATrainer


class StepCallback(TrainerCallback):  # type: ignore[misc]
    """Before the first step of a new run, and after each optimizer step, before it is logged and saved."""

    def __init__(self, trainer: MASATrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if not state.global_step:
            self._trainer.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._trainer.finish_step()
