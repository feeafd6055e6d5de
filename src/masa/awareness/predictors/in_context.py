"""Self-prediction that is told of its own past: recent outcomes go into the meta prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masa.awareness.predictors.base import Observation
from masa.awareness.predictors.checks import check_setting
from masa.awareness.predictors.self_prediction import SelfPredictor
from masa.records import Outcome, Problem

_RECENT = 3
"""Outcomes kept a problem."""
_BUCKETS = 1024
"""Length of a text's vector; collisions blur similarities a little, and that is all they do."""


class InContextPredictor(SelfPredictor):
    """As `self`, with a memory of outcomes for the meta prompt (after METIS, arXiv 2605.11235).

    `context` tells of the problem's own last three groups, or else of those of the most similar problem remembered, or
    nothing. Similarity is the cosine between hashed counts of character 3-grams of the case-folded texts; one call
    costs one product of the memory's [problems, 1024] matrix with a vector.

    A problem is known again by key and text, so that a held-out set which numbers its problems from 0 again is not
    told of training problems' outcomes as its own.

    Args:
        similarity: least cosine, 0..1, at which another problem's outcomes are worth telling.
        capacity: problems remembered; those rolled out longest ago leave first.

    Raises:
        ValueError: for a setting out of range.
    """

    name = "in-context"

    def __init__(self, *, similarity: float = 0.7, capacity: int = 2048) -> None:
        check_setting(self.name, "similarity", similarity, 0, 1)
        check_setting(self.name, "capacity", capacity, 1)
        self.similarity = similarity
        self.capacity = capacity
        # Slots of the matrix and records stay aligned; a record moves nowhere until its slot is taken by another.
        self._slots: dict[int, int] = {}
        self._vectors: NDArray[np.float32] = np.zeros((0, _BUCKETS), np.float32)
        self._keys: list[int] = []
        self._texts: list[str] = []
        self._outcomes: list[list[tuple[int, int, int, float | None]]] = []
        """(step, right, rolled, mean correct length in tokens) of each slot's last groups, oldest first."""

    def context(self, problem: Problem) -> str:
        """One plain sentence on earlier outcomes, on a single line; empty without any."""
        slot = self._slots.get(problem.key)
        if slot is not None and self._texts[slot] == problem.text:
            return f"Earlier attempts: {_in_words(self._outcomes[slot])}"
        if not self._keys:
            return ""
        cosines = self._vectors[: len(self._keys)] @ _vector(problem.text)
        nearest = int(cosines.argmax())
        if cosines[nearest] < self.similarity:
            return ""
        return f"Attempts at a similar problem: {_in_words(self._outcomes[nearest])}"

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Remember the step's outcomes."""
        for observation in observations:
            problem = observation.evidence.problem
            slot = self._slots.pop(problem.key, None)
            if slot is None:
                slot = self._free_slot()
            if self._keys[slot] != problem.key or self._texts[slot] != problem.text:
                self._write(slot, problem)
            self._slots[problem.key] = slot  # last in the order of leaving
            self._outcomes[slot] = [*self._outcomes[slot], _brief(step, observation.outcome)][-_RECENT:]

    def state_dict(self) -> dict[str, Any]:
        """Texts and outcomes by slot, and the order in which problems leave; vectors follow from the texts."""
        return {
            "order": list(self._slots.values()),
            "slots": [
                [key, text, [list(outcome) for outcome in outcomes]]
                for key, text, outcomes in zip(self._keys, self._texts, self._outcomes, strict=True)
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._keys, self._texts, self._outcomes = [], [], []
        self._vectors = np.zeros((0, _BUCKETS), np.float32)
        for key, text, outcomes in state["slots"]:
            slot = self._new_slot()
            self._write(slot, Problem(key=int(key), text=text, answer=""))
            self._outcomes[slot] = [(int(s), int(k), int(n), length) for s, k, n, length in outcomes]
        self._slots = {self._keys[slot]: int(slot) for slot in state["order"]}

    def metrics(self) -> dict[str, float]:
        """Problems remembered."""
        return {"predictor/known_problems": float(len(self._slots))}

    def _free_slot(self) -> int:
        if len(self._keys) < self.capacity:
            return self._new_slot()
        return self._slots.pop(next(iter(self._slots)))

    def _new_slot(self) -> int:
        slot = len(self._keys)
        if slot == len(self._vectors):
            grown = np.zeros((min(max(64, 2 * slot), max(self.capacity, slot + 1)), _BUCKETS), np.float32)
            grown[:slot] = self._vectors
            self._vectors = grown
        self._keys.append(-1)
        self._texts.append("")
        self._outcomes.append([])
        return slot

    def _write(self, slot: int, problem: Problem) -> None:
        self._keys[slot], self._texts[slot], self._outcomes[slot] = problem.key, problem.text, []
        self._vectors[slot] = _vector(problem.text)


def _vector(text: str) -> NDArray[np.float32]:
    """Hashed counts of the text's character 3-grams, scaled to length 1, [1024]."""
    # Padded, so that the shortest text has a 3-gram; spacing is the typesetter's, not the problem's.
    padded = f"  {' '.join(text.casefold().split())}  "
    codes = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    mixed = (codes[:-2] * np.uint64(0x1F123BB5) + codes[1:-1]) * np.uint64(0x2545F491) + codes[2:]
    buckets = (mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54)
    counts = np.bincount(buckets.astype(np.int64), minlength=_BUCKETS).astype(np.float32)
    scaled: NDArray[np.float32] = counts / np.linalg.norm(counts)
    return scaled


def _brief(step: int, outcome: Outcome) -> tuple[int, int, int, float | None]:
    lengths = outcome.correct_lengths
    return step, sum(outcome.correct), len(outcome.correct), sum(lengths) / len(lengths) if lengths else None


def _in_words(outcomes: Sequence[tuple[int, int, int, float | None]]) -> str:
    """For example `2 of 8, then 3 of 8 right, 57 tokens on average.`; the tokens are those of right attempts."""
    rates = ", then ".join(f"{right} of {rolled}" for _, right, rolled, _ in outcomes)
    known = [(right, length) for _, right, _, length in outcomes if length is not None]
    if not known:
        return f"{rates} right."
    mean = sum(right * length for right, length in known) / sum(right for right, _ in known)
    return f"{rates} right, {mean:.0f} tokens on average."
