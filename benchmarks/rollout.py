"""Rollout speed: LocalEngine against transformers' `generate`, called as TRL's GRPOTrainer calls it.

    python benchmarks/rollout.py [--model PATH] [--prompts 32] [--group 8] [--repeats 3] [--json]

Both get the same model, prompts and sampling, and both end each rollout at the same length, drawn beforehand: what is
compared is work, not luck. A token is useful up to its rollout's end; `generate` keeps computing rows that have ended
until the longest has. Engines take turns and the ratio is taken pair by pair, since a shared machine changes speed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen3Config, Qwen3ForCausalLM, StoppingCriteria

from masa.records import Request
from masa.rollout.local import LocalEngine

BUNDLED_MODEL = Path(__file__).parents[1] / "src" / "masa" / "tiny" / "model"


def random_model() -> Any:
    """A Qwen3 of 0.6 M random parameters, shaped like the bundled model."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=256,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
    )


def draw_lengths(case: str, count: int, longest: int, rng: np.random.Generator) -> list[int]:
    """Tokens of each rollout: `equal`, `ragged` (log-normal, a factor of about 10 from short to long) or `heavy-tail`
    (one in ten runs to the limit, the others end within an eighth of it)."""
    if case == "equal":
        return [longest // 4] * count
    if case == "ragged":
        lengths = rng.lognormal(np.log(longest / 4), 0.6, count)
    else:
        short = rng.uniform(longest / 16, longest / 8, count)
        lengths = np.where(np.arange(count) % 10 == 0, longest, short)
    return [int(length) for length in lengths.clip(4, longest)]


class EndAt(StoppingCriteria):
    """Rows end at lengths given beforehand."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = torch.tensor(lengths)
        self.step = 0

    def __call__(self, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        self.step += 1
        return self.lengths <= self.step


def run_generate(model: Any, requests: Sequence[Request]) -> int:
    """One call for the whole batch, padded on the left; returns the columns generated."""
    width = max(len(request.prompt_ids) for request in requests)
    ids = torch.zeros(len(requests), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, request in enumerate(requests):
        ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        mask[row, width - len(request.prompt_ids) :] = 1
    lengths = [request.max_tokens for request in requests]
    config = GenerationConfig(max_new_tokens=max(lengths), do_sample=True, temperature=1.0, top_k=0, pad_token_id=0)
    with torch.no_grad():
        output = model.generate(ids, attention_mask=mask, generation_config=config, stopping_criteria=[EndAt(lengths)])
    return int(output.shape[1]) - width


def measure(model: Any, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both engines over the same requests, in pairs."""
    rng = np.random.default_rng(options.seed)
    vocabulary = model.config.vocab_size
    prompts = [tuple(rng.integers(3, vocabulary, rng.integers(30, 60)).tolist()) for _ in range(options.prompts)]
    lengths = draw_lengths(case, options.prompts * options.group, options.max_tokens, rng)
    requests = [Request(prompts[index // options.group], length, seed=index) for index, length in enumerate(lengths)]
    engine = LocalEngine(model, eos_token_ids=(), max_batch_size=options.slots)
    engine.generate(requests[: options.group])
    pairs = []
    for repeat in range(options.repeats):
        seconds = {}
        order = ("engine", "generate") if repeat % 2 else ("generate", "engine")
        for name in order:
            start = time.perf_counter()
            if name == "engine":
                assert [rollout.length for rollout in engine.generate(requests)] == lengths
            else:
                assert run_generate(model, requests) == max(lengths)
            seconds[name] = time.perf_counter() - start
        pairs.append(seconds)
        print(f"  {case} {repeat + 1}/{options.repeats}: {seconds}", file=sys.stderr)
    useful = sum(lengths)
    return {
        "case": case,
        "useful_tokens": useful,
        "longest": max(lengths),
        "engine_tokens_per_second": useful / statistics.median(pair["engine"] for pair in pairs),
        "generate_tokens_per_second": useful / statistics.median(pair["generate"] for pair in pairs),
        "ratio": statistics.median(pair["generate"] / pair["engine"] for pair in pairs),
        "seconds": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="a path; default the bundled model, else a random one like it")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="equal,ragged,heavy-tail")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.model or (BUNDLED_MODEL if (BUNDLED_MODEL / "config.json").exists() else None)
    model = random_model() if path is None else AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.eval()
    # Lengths are given, so neither engine may end a rollout by itself.
    model.generation_config.eos_token_id = None
    cases = [measure(model, case, options) for case in options.cases.split(",")]
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {options.threads} thread(s)",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": str(path or "random Qwen3"),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "requests": f"{options.prompts} x {options.group}",
        "slots": options.slots,
        "cases": cases,
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['model']}, {result['parameters']} parameters, {result['requests']} requests, {result['machine']}")
    print(f"{'case':<12}{'useful':>8}{'longest':>9}{'generate tok/s':>16}{'engine tok/s':>14}{'ratio':>8}")
    for case in cases:
        print(
            f"{case['case']:<12}{case['useful_tokens']:>8}{case['longest']:>9}"
            f"{case['generate_tokens_per_second']:>16.0f}{case['engine_tokens_per_second']:>14.0f}{case['ratio']:>8.2f}"
        )


if __name__ == "__main__":
    main()
