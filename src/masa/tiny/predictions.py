"""Meta prompts of the corpus and answers to them: the right format, and no knowledge of oneself.

Pass rate, length and notions are drawn without looking at the problem, as diverse as they are uninformative. Only
the words between the tags say something true, and only about the problem: its kind and size.
"""

from __future__ import annotations

import json
import math
import random

MINIMUM_LENGTH = 8
"""Smallest solution length, in tokens, that the corpus' meta prompts allow."""

_MAXIMUM_LENGTHS = (192, 192, 192, 192, 96, 128, 160, 224, 256)

NOTIONS = (
    # words of careful solutions
    "running total", "subtract", "carry", "partial product", "remainder", "divisor", "smallest", "largest",
    "remaining", "odd", "even", "half", "bits", "shift",
    # of sloppy and rambling ones
    "roughly", "about", "maybe", "guess", "again",
    # of none
    "angle", "matrix", "vector", "graph", "integral",
)  # fmt: skip
"""What predictions of the corpus name as notions."""


def draw_maximum_length(rng: random.Random) -> int:
    """A run's largest response length in tokens, most often that of the default run."""
    return rng.choice(_MAXIMUM_LENGTHS)


def describe(text: str, task: str) -> str:
    """Kind and size of a problem in a few words, for example `sum 5 terms 1 digits`."""
    words = text.split()
    if task == "chain_sum":
        return f"sum {len(words) // 2 + 1} terms {len(words[0])} digits"
    if task == "products":
        return f"product {len(words) // 2 + 1} terms {len(words[0])} digits"
    if task == "gcd":
        return f"common {max(map(len, words[1:]))} digits"
    if task == "number_sorting":
        return f"order {len(words) - 2} terms {max(map(len, words[2:]))} digits"
    return f"base {len(words[1])} digits"


def prediction(text: str, task: str, maximum_length: int, rng: random.Random) -> str:
    """An answer to the meta prompt, random in everything but the description and the format."""
    notions = rng.sample(NOTIONS, rng.choice((1, 2, 2, 3)))
    length = round(math.exp(rng.uniform(math.log(MINIMUM_LENGTH), math.log(maximum_length))))
    fields = {"math_notion": notions, "pass_rate": rng.randint(0, 8), "solution_length": length}
    return f"<meta>{describe(text, task)}</meta>{json.dumps(fields)}"
