"""The rollout benchmark's numbers for people to read, the machine they came from, and peak memory."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_PEAK = r"""
import re, sys, torch
from transformers import AutoModelForCausalLM
from masa.records import Request
from masa.rollout.local import LocalEngine
path, requests, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
engine = LocalEngine(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), max_batch_size=slots)
engine.generate([Request((3 + i % 200, 4, 5), 16 + i * 7 % 48, seed=i) for i in range(requests)])
# Not getrusage, which remembers the parent's memory too.
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
"""


def machine(threads: int) -> str:
    """The processor by model, cores and what it multiplies with; no names of its owner's."""
    model, flags = platform.machine(), set()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    sets = ", ".join(name for name in _INSTRUCTION_SETS if name in flags) or "unknown instruction sets"
    return f"{model}, {os.cpu_count()} cores, {sets}; {threads} thread{'s' * (threads > 1)}"


def peak_memory(path: str, requests: int, slots: int) -> dict[str, Any]:
    """Peak resident memory of a process that serves so many requests through so many slots; Linux only."""
    command = [sys.executable, "-c", _PEAK, path, str(requests), str(slots)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"requests": requests, "slots": slots, "peak_mb": int(done.stdout.split()[-1]) / 1024}


def table(result: dict[str, Any]) -> str:
    """Markdown: what was measured where, and one row a case."""
    names = list(dict.fromkeys(name for case in result["cases"] for name in case["tokens_per_second"]))
    quantiles = ", ".join(f"{name} {value:.0f}" for name, value in result["lengths"].items())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    lines = [
        f"### {result['model']}, {result['dtype']}, {result['requests']} requests, {result['slots']} slots",
        "",
        f"{result['parameters']:,} parameters; limit {result['max_tokens']} tokens; sampled lengths: {quantiles}.",
        f"{result['machine']}; {versions}; medians of {result['repeats']} turns.",
        "Useful tokens per second, and in brackets how many times the engine's time a peer takes, turn by turn.",
        "",
        "| case | useful tokens | longest | " + " | ".join(names) + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for case in result["cases"]:
        cells = [_cell(case, name) for name in names]
        lines.append(f"| {case['case']} | {case['useful_tokens']} | {case['longest']} | {' | '.join(cells)} |")
    if not result["vllm"]:
        lines += ["", "vLLM was not measured: give `--vllm-python`."]
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in result["shares"].items())
    lines += ["", f"Where the engine's operators spend their time (ragged): {shares}."]
    if result["scheduling"]:
        lines += ["", "| case, a slot for every four requests | known beforehand | steps | slots in use | seconds |"]
        lines.append("|---|---|---|---|---|")
    lines += [
        f"| {row['case']} | {row['prediction']} | {row['steps']} | {row['occupancy']:.0%} | {row['seconds']:.2f} |"
        for row in result["scheduling"]
    ]
    if result["memory"]:
        peaks = ", ".join(f"{row['requests']} requests {row['peak_mb']:.0f} MB" for row in result["memory"])
        lines += ["", f"Peak resident memory with {result['memory'][0]['slots']} slots: {peaks}."]
    return "\n".join(lines)


def _cell(case: dict[str, Any], name: str) -> str:
    if name not in case["tokens_per_second"]:
        return "-"
    speed = f"{case['tokens_per_second'][name]:,.0f}"
    return f"{speed} ({case['ratio'][name]:.2f})" if name in case["ratio"] else speed


def add_to_results(text: str, folder: Path, name: str, title: str) -> Path:
    """Add a table to today's file of results of this name; a new file begins with the title."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{datetime.date.today().isoformat()}-{name}.md"
    before = file.read_text(encoding="utf-8") if file.exists() else f"# {title}\n"
    file.write_text(f"{before}\n{text}\n", encoding="utf-8")
    return file
