"""Rollout speed: LocalEngine against transformers' `generate` and continuous batching, vLLM, and a bare loop.

    make bench-rollout                                    # or, with options:
    python benchmarks/rollout.py [--model bundled] [--prompts 16] [--group 8] [--dtype float32] [--json]

All get the same model, prompts, sampling and lengths, in one process each with as many threads. A token is useful up
to its rollout's end. Peers take turns and ratios are taken turn by turn, since a shared machine changes speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rollout_peers import VLLM, ContinuousBatching, Engine, Floor, Generate, LeanFloor, Peer
from rollout_profile import operator_shares
from rollout_report import add_to_results, machine, peak_memory, table
from rollout_workload import CASES, Workload, Workloads
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from masa.models import resolve


def measure(peers: list[Peer], workload: Workload, repeats: int) -> dict[str, Any]:
    """Seconds of each peer over the same requests, the engine first; and the ratios to it, turn by turn."""
    turns: list[dict[str, float]] = []
    for repeat in range(repeats):
        seconds = {}
        # Every other turn goes backwards.
        for peer in peers[:: -1 if repeat % 2 else 1]:
            start = time.perf_counter()
            peer.run(workload)
            seconds[peer.name] = time.perf_counter() - start
        turns.append(seconds)
        say(f"  {workload.case} {repeat + 1}/{repeats}: {seconds}")
    return {
        "case": workload.case,
        "useful_tokens": workload.useful,
        "longest": max(workload.lengths),
        "tokens_per_second": {
            peer.name: workload.useful / statistics.median(turn[peer.name] for turn in turns) for peer in peers
        },
        "ratio": {
            peer.name: statistics.median(turn[peer.name] / turn["engine"] for turn in turns) for peer in peers[1:]
        },
        "seconds": turns,
    }


def measure_scheduling(engine: Engine, workload: Workload, repeats: int) -> list[dict[str, Any]]:
    """What foreknowledge of lengths gives when four requests wait for each slot."""
    lengths = np.array(workload.lengths)
    group = len(lengths) // len({request.prompt_ids for request in workload.requests})
    noise = np.random.default_rng(0).lognormal(0, 0.5, len(lengths))
    guesses: dict[str, Any] = {
        "no prediction": [None] * len(lengths),
        "mean length of the group": lengths.reshape(-1, group).mean(axis=1).repeat(group),
        "each length, off by a factor of 1.6": lengths * noise,
        "each length": lengths,
    }
    engine.local.max_batch_size = len(lengths) // 4
    results = []
    for name, guess in guesses.items():
        requests = [
            dataclasses.replace(request, expected_tokens=None if value is None else float(value))
            for request, value in zip(workload.requests, guess, strict=True)
        ]
        with counted_steps(engine) as steps:
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                engine.run(dataclasses.replace(workload, requests=requests))
                seconds.append(time.perf_counter() - start)
        results.append(
            {
                "case": workload.case,
                "prediction": name,
                "steps": len(steps) // repeats,
                "occupancy": sum(steps) / len(steps) / engine.local.max_batch_size,
                "seconds": statistics.median(seconds),
            }
        )
        say(f"  {results[-1]}")
    return results


@contextmanager
def counted_steps(engine: Engine) -> Iterator[list[int]]:
    """Rows of every decoding step meanwhile."""
    rows: list[int] = []
    before = engine.watch
    engine.watch = rows.append
    try:
        yield rows
    finally:
        engine.watch = before


def say(line: str) -> None:
    """Progress, out of the way of the result."""
    print(line, file=sys.stderr, flush=True)


def make_peers(model: Any, options: argparse.Namespace) -> list[Peer]:
    """The peers asked for, the engine first."""
    dtype = getattr(torch, options.dtype)
    engine = Engine(model, dtype, options.slots)
    makers: dict[str, Callable[[], Peer]] = {
        "generate": lambda: Generate(model, dtype),
        "continuous": lambda: ContinuousBatching(model, dtype, options.slots),
        "floor": lambda: Floor(model, dtype, options.slots),
        "own-floor": lambda: LeanFloor(engine, options.slots),
    }
    peers: list[Peer] = [engine]
    peers += [makers[name]() for name in options.peers.split(",") if name in makers]
    if options.vllm_python is not None:
        positions = min(1024, model.config.max_position_embeddings)
        peers.append(VLLM(options.vllm_python, model, dtype, options.slots, options.threads, positions))
    return peers


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled", help="a name that masa knows, or a path")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--peers", default="generate,floor,own-floor", help="also: continuous (slow on a CPU)")
    parser.add_argument("--vllm-python", help="interpreter of an environment with vLLM")
    parser.add_argument("--no-scheduling", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    parser.add_argument("--results", type=Path, help="folder to write a dated Markdown file into")
    return parser.parse_args()


def main() -> None:
    """Measure all cases and print the table."""
    options = parse()
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path = resolve(options.model)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    workloads = Workloads(model, tokenizer, options.prompts, options.group, options.max_tokens)
    peers = make_peers(model, options)
    cases = []
    try:
        for name in options.cases.split(","):
            # The bare loops know equal lengths only.
            able = [peer for peer in peers if name == "equal" or not isinstance(peer, (Floor, LeanFloor))]
            cases.append(measure(able, workloads.case(name), options.repeats))
    finally:
        for peer in peers:
            if isinstance(peer, VLLM):
                peer.close()
    profiled = Engine(model, getattr(torch, options.dtype), options.slots)
    shares = operator_shares(profiled, workloads.case("ragged"))
    scheduling = []
    if not options.no_scheduling:
        engine = Engine(model, getattr(torch, options.dtype), options.slots)
        for name in ("ragged", "heavy-tail"):
            scheduling += measure_scheduling(engine, workloads.case(name), options.repeats)
    result = {
        "machine": machine(options.threads),
        "model": options.model,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": options.dtype,
        "requests": f"{options.prompts} x {options.group}",
        "max_tokens": options.max_tokens,
        "slots": options.slots,
        "repeats": options.repeats,
        "lengths": {name: float(np.percentile(workloads.sampled, q)) for name, q in QUANTILES.items()},
        "vllm": options.vllm_python is not None,
        "cases": cases,
        "shares": shares,
        "scheduling": scheduling,
        "memory": [] if options.no_memory else [peak_memory(path, n * 64, 64) for n in (1, 10)],
    }
    if options.results is not None:
        say(f"written: {add_to_results(table(result), options.results, 'rollout', 'Rollout engine')}")
    print(json.dumps(result) if options.json else table(result))


QUANTILES = {"5 %": 5, "median": 50, "90 %": 90, "longest": 100}


if __name__ == "__main__":
    main()
