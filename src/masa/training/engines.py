"""The engine of a training run: the learner's own model, or vLLM with its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from masa.rollout.local import LocalEngine
from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import InProcess, Link, OwnProcess, Server
from masa.rollout.vllm_worker import TOKEN
from masa.training.config import MASAConfig
from masa.training.machine import thread_count

if TYPE_CHECKING:
    from masa.training.trainer import MASATrainer


def make_engine(trainer: MASATrainer) -> LocalEngine | VLLMEngine:
    """What the run's settings ask for.

    Raises:
        UserError: if vLLM is asked for and not there.
    """
    args: MASAConfig = trainer.args
    device = trainer.accelerator.device
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    if not args.use_vllm:
        return LocalEngine(
            trainer.model,
            trainer._tokenizer,
            max_batch_size=args.engine_batch_size,
            eos_token_ids=trainer.eos_token_ids,
            compute_dtype=dtype,
        )
    return VLLMEngine(
        trainer.model,
        trainer._tokenizer,
        link=_link(trainer),
        max_batch_size=args.engine_batch_size,
        eos_token_ids=trainer.eos_token_ids,
        dtype=dtype,
        max_model_len=args.vllm_max_model_length,
        memory_share=args.vllm_gpu_memory_utilization,
        compiled=device.type == "cuda",  # where the model may only come to be when it is sharded
        seed=args.seed % 2**32,
    )


def _link(trainer: MASATrainer) -> Link:
    """To this process's own vLLM."""
    args: MASAConfig = trainer.args
    if args.vllm_mode == "server":
        return Server(
            args.vllm_server_host,
            args.vllm_server_port + trainer.team.rank,
            os.environ.get(TOKEN, ""),
            timeout=args.vllm_server_timeout,
        )
    if args.vllm_python is not None:
        threads = thread_count(args.num_threads, trainer.model)
        return OwnProcess(args.vllm_python, threads=threads, device=trainer.accelerator.device)
    return InProcess()


@contextmanager
def trls_vllm_left_out(args: MASAConfig) -> Iterator[None]:
    """`use_vllm` is off meanwhile: TRL's trainer would start its own vLLM, of versions of its own."""
    asked, args.use_vllm = args.use_vllm, False
    try:
        yield
    finally:
        args.use_vllm = asked
