"""Rollouts in a smaller type than the weights are kept in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def computing_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Autocast to `dtype` for as long as the context lasts, with the weights of linear layers cast once.

    What is computed is what a learner computes under autocast. But autocast casts a frozen weight again at every
    forward pass, which for a decoding step is more work than the step itself, so linear layers are lent copies in
    `dtype` meanwhile. Their own parameters are back afterwards, untouched, and tied ones still tied.
    """
    if dtype is None:
        yield
        return
    lent: list[tuple[nn.Module, str, nn.Parameter]] = []
    try:
        for module in model.modules():
            if isinstance(module, nn.Linear):
                for name, parameter in module._parameters.items():
                    if parameter is not None and parameter.dtype == torch.float32:
                        lent.append((module, name, parameter))
                        module._parameters[name] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        device = next(model.parameters()).device
        with torch.autocast(device.type, dtype):
            yield
    finally:
        for module, name, parameter in lent:
            module._parameters[name] = parameter
