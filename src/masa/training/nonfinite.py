"""Updates whose loss or gradient is not finite: skipped, counted, and after too many in a row the end of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from masa.errors import UserError
from masa.training.checkpoint import latest


class FiniteUpdates:
    """Keeps NaN and infinities out of weights and optimizer.

    Args:
        most: skipped steps in a row that end the run.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_a_row = 0
        self.is_skipped = False
        """Whether the step's update was skipped."""

    def check(self, model: nn.Module, loss: Tensor | None, grad_norm: float) -> None:
        """Look at a step between its gradient and the optimizer's move.

        Gradients of a step to be skipped become None, not zero: optimizers move on zeros (moments decay, and weights
        with them), and leave alone what has no gradient.

        Args:
            loss: of the step, summed over micro-batches; a tensor without axes.
            grad_norm: of the step's gradient.
        """
        value = 0.0 if loss is None else loss.item()
        self.is_skipped = not (math.isfinite(value) and math.isfinite(grad_norm))
        if self.is_skipped:
            model.zero_grad(set_to_none=True)
            self._in_a_row += 1
        elif value or grad_norm:  # a step with nothing to learn says nothing of those around it
            self._in_a_row = 0

    def stop_if_hopeless(self, step: int, output: str) -> None:
        """End the run if too many updates in a row were skipped.

        Args:
            step: the one that has just ended.
            output: the run folder; its newest checkpoint is good, since skipped steps change no weight.

        Raises:
            UserError: naming that checkpoint.
        """
        if self._in_a_row < self._most:
            return
        last_good = latest(output)
        kept = "there is no checkpoint" if last_good is None else f"the last good checkpoint is {last_good}"
        raise UserError(
            f"loss or gradient was not finite in {self._in_a_row} steps in a row, up to step {step}; none of them "
            f"changed the weights, and {kept}: lower learning_rate, look at the rewards, or allow more with "
            "max_nonfinite_steps"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._in_a_row = int(state["in_a_row"])


@contextmanager
def finite_outputs(output: str) -> Iterator[None]:
    """Says what to do where the policy itself has become useless: its weights are not finite any more.

    Args:
        output: the run folder.

    Raises:
        UserError: in place of the engine's error.
    """
    try:
        yield
    except FloatingPointError as error:
        raise UserError(
            f"the model cannot be sampled from: {error}; its weights are not finite, so lower the learning rates and "
            f"go back to an earlier checkpoint of {output} (its newest: {latest(output)})"
        ) from error
