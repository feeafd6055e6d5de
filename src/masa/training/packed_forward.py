"""TRL's forward pass of the loss, over packed rows: log-probabilities of completion tokens and their entropies."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from masa.training.config import MASAConfig
from masa.training.logprobs import log_probabilities
from masa.training.packing import lay_out, packed_attention

Scores = tuple[Tensor, Tensor | None, Tensor | None]
"""What TRL's forward returns: log-probabilities and entropies [rows, completion width], and an auxiliary loss."""
_AGREEMENT, _AGREEMENT_IN_HALF_PRECISION = 1e-3, 0.1
"""Mean difference in log-probability, in nats, up to which two ways to compute it are the same but for rounding."""


class PackedForward:
    """Computes what TRL's forward computes, without padding and with each prompt once (see `packing`).

    The first batch is computed both ways. Where they differ, or the model cannot attend to packed rows, TRL's own
    forward serves this batch and all later ones: a model may do things to its logits or to attention that are not
    foreseen here.

    Args:
        model: a causal language model, adapters inside.
        autocast: a fresh context of the run's precision.
    """

    def __init__(
        self, model: nn.Module, *, temperature: float, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._model: Any = model
        self._temperature = temperature
        self._autocast = autocast
        self._is_checked = False
        self.is_on = True

    @classmethod
    def where_possible(
        cls,
        args: MASAConfig,
        model: Any,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
        aux_loss: bool,
        is_sharded: bool = False,
    ) -> PackedForward | None:
        """None if packing is not asked for, or settings tell that loss or gradient would change.

        Sharded weights are gathered where the whole model is called, which packing does not do.
        """
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        if not _can_pack(args, model) or aux_loss or is_sharded:
            return None
        return cls(model, temperature=args.temperature, autocast=autocast)

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, completion_width: int, own: Callable[[], Scores]
    ) -> Scores:
        """Scores of a batch as TRL pads it, [rows, prompt width + completion width]; `own` is TRL's way."""
        if not attention_mask[:, -completion_width:].any():
            return own()
        if self.is_on and not self._is_checked:
            self._check(input_ids, attention_mask, completion_width, own)
        return self._scores(input_ids, attention_mask, completion_width) if self.is_on else own()

    def _scores(self, input_ids: Tensor, attention_mask: Tensor, completion_width: int) -> Scores:
        layout = lay_out(input_ids, attention_mask, completion_width)
        head = self._model.get_output_embeddings()
        with self._autocast(), packed_attention(self._model):
            hidden = self._model.base_model(
                input_ids=layout.input_ids, position_ids=layout.position_ids, use_cache=False, masa_layout=layout
            ).last_hidden_state[0]
            scored = log_probabilities(
                hidden.index_select(0, layout.sources), head.weight, head.bias, layout.targets, self._temperature
            )
        is_scored = attention_mask[:, -completion_width:].bool()
        log_probs, entropies = (x.new_zeros(is_scored.shape).masked_scatter(is_scored, x) for x in scored)
        return log_probs, entropies, None

    @torch.no_grad()
    def _check(
        self, input_ids: Tensor, attention_mask: Tensor, completion_width: int, own: Callable[[], Scores]
    ) -> None:
        self._is_checked = True
        expected = own()[0]
        try:
            log_probs = self._scores(input_ids, attention_mask, completion_width)[0]
        except Exception as error:  # whatever a model cannot do this way, TRL's own way is there
            self._give_up(f"{type(error).__name__}: {error}")
            return
        is_scored = attention_mask[:, -completion_width:].bool()
        difference = (log_probs - expected)[is_scored].abs().mean().item()
        with self._autocast():
            is_half = torch.is_autocast_enabled(input_ids.device.type)
        is_half |= next(self._model.parameters()).dtype.itemsize < 4
        if not difference <= (_AGREEMENT_IN_HALF_PRECISION if is_half else _AGREEMENT):
            self._give_up(f"log-probabilities differ by {difference:.2g} nats")

    def _give_up(self, reason: str) -> None:
        self.is_on = False
        warnings.warn(f"packed_update is off, TRL's own forward serves instead: {reason}", stacklevel=2)


def _can_pack(args: MASAConfig, model: Any) -> bool:
    """Whether packing is asked for and would leave loss and gradient as they are, as far as settings tell.

    Reentrant checkpoints cannot attend again as they did; entropies have no gradient here; dropout would draw once for
    tokens that rows share.
    """
    layer_types = getattr(model.config, "layer_types", None) or ()
    return bool(
        args.packed_update
        and getattr(model, "_supports_attention_backend", False)
        and model.config._attn_implementation in ("sdpa", "eager")
        and all(kind == "full_attention" for kind in layer_types)
        and isinstance(model.get_output_embeddings(), nn.Linear)
        and not any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
        and not (args.gradient_checkpointing and (args.gradient_checkpointing_kwargs or {}).get("use_reentrant"))
        and not args.cast_lm_head_to_fp32
        and not (args.entropy_coef != 0.0 or args.use_adaptive_entropy)
    )
