"""Does a text use a notion? Lemma matching, and the reference code's substrings for comparison."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Literal, TypeAlias, get_args

import simplemma

Matching: TypeAlias = Literal["lemma", "substring"]

_POSSESSIVE = re.compile("['\u2019](?:s?\\b|(?=\\s))")
_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD = 40

# Where simplemma's general English errs on technical words (or might in another release). It reads "bases" as the
# plural of "base", which is the likelier one in number problems.
_EXCEPTIONS = {
    "axes": "axis",
    "basis": "basis",
    "analysis": "analysis",
    "analyses": "analysis",
    "radius": "radius",
    "radii": "radius",
    "matrices": "matrix",
    "leaves": "leaf",
    "means": "mean",
    "modulus": "modulus",
    "calculus": "calculus",
    "locus": "locus",
    "series": "series",
    "cos": "cos",
    "gcds": "gcd",
    "lcms": "lcm",
    "am": "am",  # as in AM-GM
    "lhs": "lhs",
    "rhs": "rhs",
    "bfs": "bfs",
    "dfs": "dfs",
}

_STOP_WORDS = """
a about after again all also an and any are as at be because been before being both but by can cannot could did
do does down each else even every for from get give go had has have he hence her here his how i if in into is it
its just know let like make may me more most much must my need no nor not now of off on once one only or other our
out over own same see shall she should since so some still such take than that the their them then there therefore
these they this those though through thus to too under until up us use very was we well were what when where which
while who why will with would yes yet you your answer boxed final first following give left next now problem
question right second solution solve step think begin end frac text mathrm cdot quad ldots
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that say nothing of how a problem is solved: English function words and the furniture of written solutions."""


def matching_names() -> tuple[str, ...]:
    """The names of the ways of matching."""
    return get_args(Matching)


@lru_cache(maxsize=1 << 17)
def lemma(word: str) -> str:
    """The dictionary form of a case-folded English word; numbers and words of over 40 letters stay as they are."""
    if not word.isalpha() or len(word) > _LONGEST_WORD:
        return word
    if word in _EXCEPTIONS:
        return _EXCEPTIONS[word]
    return str(simplemma.lemmatize(word, lang="en")).casefold()


@cache
def stop_lemmas() -> frozenset[str]:
    """The stop words and their lemmas; on call, since the first lemma loads half a second of dictionary."""
    return STOP_WORDS | frozenset(map(lemma, STOP_WORDS))


def words(text: str) -> list[str]:
    """The case-folded words of a text: runs of letters and digits, a possessive 's left out."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if "'" in text or "\u2019" in text:
        text = _POSSESSIVE.sub(" ", text)
    return _WORD.findall(text.casefold())


def lemmas(text: str) -> tuple[str, ...]:
    """The lemmas of a text's words, in order."""
    return tuple(map(lemma, words(text)))


def _searchable(text: str) -> str:
    """Lemmas between single spaces, so that a word sequence is a plain substring of it."""
    return f" {' '.join(map(lemma, words(text)))} "


class NotionMatcher:
    """Which of a group's texts use a notion; each text is prepared once, whatever the number of questions.

    `lemma`: the notion's words occur in the text as whole words in sequence, both sides case-folded and reduced to
    lemmas; punctuation between words is passed over. A notion without a single letter or digit occurs nowhere.
    `substring`: the notion's characters occur in the text, case and all, as the paper's reference code does
    (*ring* is then found in *considering*); for comparison only.
    """

    def __init__(self, texts: Sequence[str], matching: Matching = "lemma") -> None:
        if matching not in matching_names():
            raise ValueError(f"unknown notion matching {matching!r}: use {' or '.join(matching_names())}")
        self.matching = matching
        self._texts = tuple(texts) if matching == "substring" else tuple(map(_searchable, texts))

    def normal_form(self, notion: str) -> str:
        """What is looked for; two notions with the same normal form are the same notion."""
        return notion if self.matching == "substring" else _searchable(notion)

    def occurs(self, notion: str) -> tuple[bool, ...]:
        """One flag a text."""
        needle = self.normal_form(notion)
        if not needle.strip():
            return (False,) * len(self._texts)
        return tuple(needle in text for text in self._texts)


def contains_notion(text: str, notion: str, matching: Matching = "lemma") -> bool:
    """Whether one text uses a notion."""
    return NotionMatcher((text,), matching).occurs(notion)[0]
