"""How the bundled model is made: pre-training on the generated corpus, skills first, then the mix of habits.

`build` is reproducible from its seed on one machine (floating point differs between machines).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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

from .corpus import FINAL_BLEND, SKILL_BLEND, write_corpus
from .tokenizer import build_tokenizer

_CHUNK_STEPS = 25
"""Steps whose documents are generated and encoded at once by the worker."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes and rates of the pre-training."""

    steps: int = 3200
    batch_size: int = 72
    """Documents a step."""
    skill_share: float = 0.7
    """Share of the steps spent on skills before the mix of habits."""
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    max_answer_tokens: int = 224
    """Longer answers are cut, without an end: a few rambling ones never come to an answer."""
    checkpoint_steps: int = 0
    """Save the model every so many steps; 0: only at the end."""


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
    output: Path, seed: int = 0, recipe: Recipe | None = None, *, log: Callable[[str], None] = print
) -> Qwen3ForCausalLM:
    """Pre-train the tiny model and write it, with its tokenizer, to `output`.

    About 70 minutes on one core of a slow server; a second core makes the documents.

    Args:
        output: a folder, made if needed; files of an earlier model in it are replaced.
    """
    recipe = recipe or Recipe()
    torch.manual_seed(seed)
    tokenizer = corpus_tokenizer(seed)
    model = Qwen3ForCausalLM(model_config(tokenizer))
    model.generation_config = generation_config(tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    started = time.monotonic()
    losses: list[float] = []
    for step, documents in enumerate(_batches(recipe, tokenizer, seed)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        losses.append(_backward(model, documents, tokenizer))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            minutes = (time.monotonic() - started) / 60
            log(f"step {step + 1}/{recipe.steps}  loss {np.mean(losses[-50:]):.3f}  {minutes:.1f} minutes")
        if recipe.checkpoint_steps and (step + 1) % recipe.checkpoint_steps == 0:
            _save(model, tokenizer, output / f"checkpoint-{step + 1}")
    _save(model, tokenizer, output)
    return model


def corpus_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer whose words are those of a sample of the corpus."""
    sample = write_corpus(4000, seed, FINAL_BLEND)
    return build_tokenizer(text for document in sample for text in (document.prompt, document.answer))


def _save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _schedule(step: int, recipe: Recipe) -> float:
    """Warm-up, a plateau over half of the steps, then linear decay to a fiftieth."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    left = (recipe.steps - step) / (recipe.steps / 2)
    return max(0.02, min(1.0, left))


Encoded = tuple[NDArray[np.int16], int]
"""Tokens of prompt and answer, and the number of prompt tokens."""


def _batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[Encoded]]:
    """Documents of each step, made two chunks ahead in a worker process."""
    starts = range(0, recipe.steps, _CHUNK_STEPS)
    make = partial(_encode_chunk, recipe=recipe, tokenizer=tokenizer, seed=seed)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        ahead = [worker.submit(make, start) for start in starts[:2]]
        for place in range(len(starts)):
            documents = ahead.pop(0).result()
            if place + 2 < len(starts):
                ahead.append(worker.submit(make, starts[place + 2]))
            edges = range(0, len(documents) + 1, recipe.batch_size)
            yield from (documents[start:end] for start, end in pairwise(edges))


def _encode_chunk(start: int, *, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> list[Encoded]:
    steps = min(_CHUNK_STEPS, recipe.steps - start)
    blend = SKILL_BLEND if start < recipe.skill_share * recipe.steps else FINAL_BLEND
    documents = list(write_corpus(steps * recipe.batch_size, seed * 100_003 + start + 1, blend))
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": document.prompt}], tokenize=False, add_generation_prompt=True
        )
        for document in documents
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([document.answer + tokenizer.eos_token for document in documents])["input_ids"]
    return [
        (np.array(prompt + answer[: recipe.max_answer_tokens], dtype=np.int16), len(prompt))
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]


def _backward(model: Qwen3ForCausalLM, documents: list[Encoded], tokenizer: PreTrainedTokenizerFast) -> float:
    """Add the gradient of the mean loss over answer tokens; documents of like length share a padded batch."""
    ordered = sorted(documents, key=lambda document: len(document[0]))
    total_tokens = sum(len(tokens) - prompt for tokens, prompt in ordered)
    total = 0.0
    parts = 4
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
