"""The commands that pages show, and how each is tried."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from pages import PAGES, blocks, inline_code

PROGRAMS = ("masa", "make", "python", "python3", "accelerate", "torchrun", "pip", "uv", "apt-get", "hf", "curl")

NOT_RUN = {
    "masa eval MODEL --data math500,gsm8k --data-dir DATA --n 8 --k 1,8": "needs the files of two benchmarks",
    "masa eval smollm2-135m --data configs/smollm2.yaml --n 4 --max-tokens 40": "needs a model that must be fetched",
    "masa probe smollm2-135m --data configs/smollm2.yaml --n 4 --m 4 --limit 24 --max-tokens 40 "
    "--max-meta-tokens 100 --min-length 4": "needs a model that must be fetched",
    "masa models get smollm2-135m": "fetches 93 MB",
    "masa tiny build -o FOLDER": "takes 90 minutes",
    "masa push runs/default owner/name": "uploads to the Hub",
    "masa solve runs/default --file questions.txt --strategy learned --learn-from runs/votes": (
        "learns from more answers than these tests draw; tests/cli/test_learn_from.py has fewer"
    ),
    "masa serve runs/default": "serves until it is stopped; tests/cli/test_serve.py does",
}
"""Commands of masa that no test runs, and why: the real command line parses them all the same."""

SHRUNK = {
    "eval": "--limit 2 --n 2 --max-tokens 12",
    "probe": "--limit 2 --n 2 --m 2 --max-tokens 24 --max-meta-tokens 24",
    "solve": "--samples 2 --predictions 1 --max-tokens 16 --max-meta-tokens 24",
    "report": "",
    "push": "",
    "watch": "--once",
    "data": "",
}
"""What is added to a command that is run, so that it ends in a second; the last of two equal options counts."""

OTHERS = {
    "python3 -m venv .venv": "makes the environment that the tests run in",
    "python3 -m venv ~/vllm": "`make test-vllm` makes one",
    "pip install -c constraints-cpu.txt torch -e '.[dev]'": "fills it",
    "pip install -e '.[peft]'": "an extra; a test looks it up",
    "pip install -e '.[serve]'": "an extra; a test looks it up",
    "curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' "
    '-d \'{"model": "runs/default", "messages": [{"role": "user", "content": "12 * 34"}]}\'': (
        "tests/cli/test_serve.py asks a server of its own"
    ),
    "pip install --no-deps .": "into that environment",
    "pip install simplemma math-verify reasoning-gym": "into that environment",
    "pip install verl==0.9.1 'TransferQueue>=0.1.10'": "an environment of its own: make test-verl builds it",
    "apt-get install bubblewrap": "changes the machine",
    "hf auth login": "the Hub's own",
    "python examples/NAME.py": "tests/docs/test_examples.py runs them",
    "python benchmarks/serving.py": "starts two servers and takes their time",
    "python benchmarks/balance.py runs/masa-efficient --problems 16": "reads a whole run",
    "accelerate launch --cpu --num_processes 2": "tests/training/test_launcher.py",
    "python benchmarks/solving.py runs/solve-0 --draws runs/solve-0-draws "
    "--output runs/solving": "tests/solving/test_solving_benchmark.py has a short one",
    "python benchmarks/solving.py runs/smollm2 --data runs/smollm2/config.yaml --problems 48 --tuning 32": (
        "needs a model that must be fetched"
    ),
    "python benchmarks/solving.py MODEL --data NAME": "tests/solving/test_solving_benchmark.py",
    "python benchmarks/ablations.py runs/ablations --control masa-plus --arms before-0.7,before-0.9,before-paper,"
    "best-of-8,knapsack,gate-hidden,gate-posterior,cutoff-quantile,cutoff-median-1.5,cutoff-2,cutoff-1,k-10,k-auto": (
        "reads 81 runs"
    ),
    "python benchmarks/ablations.py runs/ablations --control before-0.7 --arms meta-2,meta-4,meta-8,meta-4-short,"
    "meta-4-combined,meta-4-unseen": "reads 81 runs",
    "python benchmarks/ablations.py runs/ablations --control meta-4 --arms difficulty-alone,length-alone,notions-alone,"
    "proper,expert,expert-unsolved,hints": "reads 81 runs",
    "python benchmarks/predictors.py": "takes an hour",
}
"""Commands of other programs than masa and make."""


@dataclass(frozen=True)
class Command:
    """One shown command."""

    text: str
    page: str = field(default="", compare=False)
    is_mention: bool = field(default=False, compare=False)
    """Whether it stands in a sentence rather than in a block to type from."""

    @property
    def arguments(self) -> list[str]:
        """Those of masa."""
        return shlex.split(self.text)[1:]

    @property
    def is_synopsis(self) -> bool:
        """Whether it shows what may be said rather than something to type."""
        return self.is_mention or bool(re.search(r"\[--|\[[A-Z]+\]|\.\.\.|\b(?:FILE|RUN|MODEL)\b", self.text))


def commands() -> list[Command]:
    """All of them once, those of blocks before those of sentences."""
    found = dict.fromkeys(sorted(_all(), key=lambda command: command.is_mention))
    return list(found)


def _all() -> Iterator[Command]:
    """Lines of fenced blocks that are not code, and what stands in backticks."""
    for page in PAGES:
        if page.name == "commands.md":  # made from the code
            continue
        for block in blocks(page):
            if block.language in ("", "bash", "sh", "shell"):
                for line in block.text.replace("\\\n", " ").splitlines():
                    yield from _command(page.name, re.split(r"\s#\s", line)[0])
        for code in sorted(inline_code(page)):
            if " " in code:
                yield from _command(page.name, code, is_mention=True)


def _command(page: str, line: str, *, is_mention: bool = False) -> Iterator[Command]:
    text = " ".join(line.split()).removeprefix("$ ").removeprefix(".venv/bin/")
    program, _, rest = text.partition(" ")
    if program in ("accelerate", "torchrun") and " -m masa.cli " in text:
        # The launcher's part is accelerate's; what is launched is ours.
        yield Command("masa " + text.split(" -m masa.cli ")[1], page)
    elif program in PROGRAMS and rest:
        yield Command(text, page, is_mention)
