"""Contamination: which problems of one set stand in another, the same or nearly so."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

SHINGLE = 8
"""Words in a row that are compared."""
NEAR = 0.5
"""Share of the shorter text's shingles that must stand in the other for the two to be called nearly the same."""

_NOTHING = re.compile(
    r"\\(?:left|right|displaystyle|limits|quad|qquad|[,;:!\[\]() ])(?![a-z])"
    r"|\\(?:text|mathrm|mbox|textbf|mathbf)\b|[\s$~{}\\]"
)
_FRACTION = re.compile(r"\\[dtc]frac\b")
_PUNCTUATION = re.compile(r"[.,;:?!'\"`\u2018\u2019\u201c\u201d]")
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Match:
    """A pair of problems, by their places (from 0) in the two sets."""

    first: int
    second: int
    exact: bool
    """Whether they are equal once normalised, else nearly the same."""
    share: float
    """Shingles in common, as a share of the shorter text's; 1 for equal texts."""


def normalise(text: str) -> str:
    """A problem's text without case, spacing, punctuation, math delimiters and LaTeX that only changes the looks."""
    text = _FRACTION.sub(r"\\frac", text.casefold().replace("\u2212", "-"))
    return _PUNCTUATION.sub("", _NOTHING.sub("", text))


def find_overlap(first: Sequence[str], second: Sequence[str]) -> list[Match]:
    """The best match in `second` of each text of `first` that has one, in order.

    Time and memory grow with the total length of the texts, not with the number of pairs.
    """
    by_text: dict[str, int] = {}
    for place, text in enumerate(second):
        by_text.setdefault(normalise(text), place)
    shingles = [_shingles(text) for text in second]
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, parts in enumerate(shingles):
        for part in parts:
            places[part].append(place)
    # What half the problems share is wording of the set and tells nothing.
    common = max(50, len(second) // 20)
    matches = []
    for place, text in enumerate(first):
        same = by_text.get(normalise(text))
        if same is not None:
            matches.append(Match(place, same, exact=True, share=1.0))
            continue
        near = _nearest(_shingles(text), shingles, places, common)
        if near is not None:
            matches.append(Match(place, near[0], exact=False, share=near[1]))
    return matches


def _nearest(
    mine: set[tuple[str, ...]],
    shingles: Sequence[set[tuple[str, ...]]],
    places: dict[tuple[str, ...], list[int]],
    common: int,
) -> tuple[int, float] | None:
    shared: Counter[int] = Counter()
    for part in mine:
        found = places.get(part, [])
        if len(found) <= common:
            shared.update(found)
    best = max(
        ((count / min(len(mine), len(shingles[place])), -place) for place, count in shared.items()), default=(0.0, 0)
    )
    return (-best[1], best[0]) if best[0] >= NEAR else None


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    # A text of a few words is like too many others: only equality counts there.
    if len(words) < 2 * SHINGLE:
        return set()
    return {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}
