"""Trackers that fail: a run does not end because a server for its curves cannot be reached."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import integration_utils

_EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


def guard(callbacks: Iterable[TrainerCallback]) -> None:
    """From its first exception on, a tracker among `callbacks` (`report_to`) is left out, with one warning.

    Other callbacks may be part of what a run does: their exceptions stay exceptions.
    """
    for callback in callbacks:
        if isinstance(callback, tuple(integration_utils.INTEGRATION_TO_CALLBACK.values())):
            _guard(callback)


def _guard(callback: TrainerCallback) -> None:
    is_off = False

    def tolerant(event: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(event)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal is_off
            if is_off:
                return None
            try:
                return event(*args, **kwargs)
            except Exception as error:  # whatever a tracker's client raises
                is_off = True
                warnings.warn(
                    f"{type(callback).__name__} failed and is left out from here on ({type(error).__name__}: {error}); "
                    "metrics.jsonl has every step",
                    stacklevel=2,
                )
                return None

        return call

    if "on_train_begin" not in vars(callback):  # not guarded by an earlier call of `train`
        for name in _EVENTS:
            setattr(callback, name, tolerant(getattr(callback, name)))
