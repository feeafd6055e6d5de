"""Derived seeds: every random choice of a run is named, none is drawn from a shared generator.

A choice is named by what it is for, never by when it was made, so that results do not depend on batch
layout, on the number of processes or on where a run was interrupted.
"""

from __future__ import annotations

import hashlib
import random
from enum import StrEnum

import numpy as np


class Purpose(StrEnum):
    """What a random choice is for."""

    SOLUTION = "solution"
    META = "meta"
    AUDIT = "audit"
    EXEMPT = "exempt"
    NEVER_STARVE = "never-starve"
    HINT = "hint"
    EXPERT = "expert"
    DATA_ORDER = "data-order"
    EVALUATION = "evaluation"
    EVALUATION_META = "evaluation-meta"
    WARM_START = "warm-start"
    FOLD = "fold"
    SERVED = "served"
    ORDER = "order"


def derive_seed(run_seed: int, purpose: Purpose, *names: int) -> int:
    """A 64-bit seed from the run's seed, a purpose and the integers that name the choice.

    By convention `names` are (step, problem key, sample index), as many as the choice has.
    """
    text = "/".join([str(run_seed), purpose.value, *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def derive_uniform(run_seed: int, purpose: Purpose, *names: int) -> float:
    """One uniform in [0, 1) under the same naming."""
    return (derive_seed(run_seed, purpose, *names) >> 11) / 2**53


def derive_random(run_seed: int, purpose: Purpose, *names: int) -> random.Random:
    """A generator of the standard library for a choice that needs several draws."""
    return random.Random(derive_seed(run_seed, purpose, *names))


def derive_generator(run_seed: int, purpose: Purpose, *names: int) -> np.random.Generator:
    """A NumPy generator for a choice that needs many draws."""
    return np.random.default_rng(derive_seed(run_seed, purpose, *names))
