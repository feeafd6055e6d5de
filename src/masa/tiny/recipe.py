"""How the bundled model is made: pre-training on the generated corpus, skills first, then the mix of habits.

`build` is reproducible from its seed on one machine (floating point differs between machines).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from .corpus import FINAL_BLEND, SKILL_BLEND, Blend, write_corpus
from .tokenizer import build_tokenizer

_CHUNK_STEPS = 25
"""Steps whose documents are generated and encoded at once by the worker."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of pre-training with one blend of the corpus and its own optimizer state."""

    blend: Blend
    steps: int
    batch_size: int
    """Documents a step."""
    learning_rate: float
    final_learning_rate: float
    """Reached linearly."""
    warmup_steps: int = 50


STAGES = (
    Stage(SKILL_BLEND, steps=3300, batch_size=36, learning_rate=6e-3, final_learning_rate=6e-3, warmup_steps=100),
    Stage(SKILL_BLEND, steps=1050, batch_size=36, learning_rate=6e-3, final_learning_rate=2e-3),
    Stage(FINAL_BLEND, steps=900, batch_size=36, learning_rate=2e-3, final_learning_rate=2e-5),
)
"""Skills first, at a constant rate, then a falling one; then the mix of habits, while the rate goes to almost zero."""

_PART_SIZE = 7
"""Documents of like length that are padded to one length: few, since padding costs more than small matrices do."""

MAX_ANSWER_TOKENS = 224
"""Longer answers are cut, without an end: a few rambling ones never come to an answer."""


def model_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """The bundled architecture: four layers of width 128, 0.64 M parameters."""
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def generation_config(tokenizer: PreTrainedTokenizerFast) -> GenerationConfig:
    """Plain sampling: nothing that would bias it."""
    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build(
    output: Path,
    seed: int = 0,
    stages: Sequence[Stage] = STAGES,
    *,
    log: Callable[[str], None] = print,
) -> Qwen3ForCausalLM:
    """Pre-train the tiny model and write it, with its tokenizer, to `output`.

    Half an hour on one core, and twice that on one that is shared; a second core makes the documents.

    Args:
        output: a folder, made if needed; files of an earlier model in it are replaced.
    """
    torch.manual_seed(seed)
    tokenizer = corpus_tokenizer(seed)
    model = Qwen3ForCausalLM(model_config(tokenizer))
    model.generation_config = generation_config(tokenizer)
    for number, stage in enumerate(stages):
        train_stage(model, tokenizer, stage, seed=1000 * seed + number, log=partial(_log_stage, log, number))
        save(model, tokenizer, output)
    return model


def train_stage(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    *,
    seed: int,
    log: Callable[[str], None] = print,
) -> None:
    """Train the model in place for one stage."""
    optimizers = _optimizers(model)
    started = time.monotonic()
    losses: list[float] = []
    for step, documents in enumerate(_batches(stage, tokenizer, seed)):
        losses.append(_backward(model, documents, tokenizer))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, stage)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            minutes = (time.monotonic() - started) / 60
            log(f"step {step + 1}/{stage.steps}  loss {np.mean(losses[-50:]):.3f}  {minutes:.1f} minutes")


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer as `AutoModelForCausalLM` and `AutoTokenizer` read them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def corpus_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer whose words are those of a sample of the corpus."""
    sample = write_corpus(4000, seed, FINAL_BLEND)
    return build_tokenizer(text for document in sample for text in (document.prompt, document.answer))


def _log_stage(log: Callable[[str], None], number: int, line: str) -> None:
    log(f"stage {number + 1}  {line}")


def _optimizers(model: Qwen3ForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the layers, where it learns as much in two thirds of the steps; AdamW for the rest."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.ndim == 2]
    chosen = set(map(id, matrices))
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return (
        # updates as large as those of AdamW, so that one learning rate suits both
        torch.optim.Muon(matrices, lr=0.0, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0),
    )


def _rate(step: int, stage: Stage) -> float:
    """Learning rate of a step: warm-up times a straight line."""
    done = step / max(1, stage.steps - 1)
    line = stage.learning_rate + (stage.final_learning_rate - stage.learning_rate) * done
    return line * min(1.0, (step + 1) / stage.warmup_steps)


Encoded = tuple[NDArray[np.int16], int]
"""Tokens of prompt and answer, and the number of prompt tokens."""


def _batches(stage: Stage, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[Encoded]]:
    """Documents of each step, made two chunks ahead in a worker process."""
    starts = range(0, stage.steps, _CHUNK_STEPS)
    make = partial(_encode_chunk, stage=stage, tokenizer=tokenizer, seed=seed)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        ahead = [worker.submit(make, start) for start in starts[:2]]
        for place in range(len(starts)):
            documents = ahead.pop(0).result()
            if place + 2 < len(starts):
                ahead.append(worker.submit(make, starts[place + 2]))
            edges = range(0, len(documents) + 1, stage.batch_size)
            yield from (documents[start:end] for start, end in pairwise(edges))


def _encode_chunk(start: int, *, stage: Stage, tokenizer: PreTrainedTokenizerFast, seed: int) -> list[Encoded]:
    steps = min(_CHUNK_STEPS, stage.steps - start)
    documents = list(write_corpus(steps * stage.batch_size, 100_003 * seed + start + 1, stage.blend))
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": document.prompt}], tokenize=False, add_generation_prompt=True
        )
        for document in documents
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([document.answer + tokenizer.eos_token for document in documents])["input_ids"]
    return [
        (np.array(prompt + answer[:MAX_ANSWER_TOKENS], dtype=np.int16), len(prompt))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def _backward(model: Qwen3ForCausalLM, documents: list[Encoded], tokenizer: PreTrainedTokenizerFast) -> float:
    """Add the gradient of the mean loss over answer tokens; documents of like length share a padded batch."""
    ordered = sorted(documents, key=lambda document: len(document[0]))
    total_tokens = sum(len(tokens) - prompt for tokens, prompt in ordered)
    total = 0.0
    parts = max(1, len(ordered) // _PART_SIZE)
    for part in range(parts):
        rows = ordered[part * len(ordered) // parts : (part + 1) * len(ordered) // parts]
        ids = torch.full((len(rows), len(rows[-1][0])), int(tokenizer.pad_token_id))
        wanted = torch.zeros_like(ids, dtype=torch.bool)
        for row, (tokens, prompt) in enumerate(rows):
            ids[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
            wanted[row, prompt : len(tokens)] = True
        # padding is on the right, where causal attention never sees it, so that no mask is needed
        hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[wanted[:, 1:]])
        loss = functional.cross_entropy(logits, ids[:, 1:][wanted[:, 1:]], reduction="sum") / total_tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total
