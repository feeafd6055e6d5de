"""Matching. Names with "reference" guard against faults of the paper's released matcher."""

import pytest

from masa.awareness import NotionMatcher, contains_notion
from masa.awareness.notions import lemma, lemmas


@pytest.mark.parametrize(
    ("text", "notion"),
    [
        ("By the radii of both circles", "radius"),
        ("its radius", "Radii"),
        ("two matrices", "matrix"),
        ("the matrix", "matrices"),
        ("a short ANALYSIS shows", "analysis"),
        ("several analyses", "analysis"),
        ("a basis of the space", "basis"),
        ("the LCM of both", "lcm"),
        ("both lcms", "LCM"),
        ("we factored it", "factoring"),
        ("use the Law of Cosines.", "law of cosines"),
        ("Euler's theorem", "euler theorem"),
        ("Bayes\u2019 theorem", "Bayes' theorem"),
        ("apply AM-GM, done", "AM-GM"),
        ("both axes", "axis"),
        ("modulo 7 we get", "modulo 7"),
        ("Ho\u0308lder", "h\u00f6lder"),  # a combining accent is the same letter
        (r"$\frac{1}{2}$", r"\frac"),
    ],
)
def test_matches(text, notion):
    assert contains_notion(text, notion)


@pytest.mark.parametrize(
    ("text", "notion"),
    [
        ("considering this", "ring"),
        ("the primer", "prime"),
        ("theorem of Euler", "euler theorem"),
        ("modulo 71", "modulo 7"),
        ("law of the cosine", "law of cosine"),
        ("a, b", ","),
        ("anything", ""),
        ("anything", "$ + $"),
        ("", "$ + $"),
    ],
)
def test_does_not_match(text, notion):
    assert not contains_notion(text, notion)


def test_reference_ring_in_considering_is_kept_for_comparison_only():
    assert contains_notion("considering this", "ring", "substring")
    assert not contains_notion("Ring theory", "ring", "substring")
    assert not contains_notion("anything", "", "substring")


@pytest.mark.parametrize("word", ["analysis", "basis", "radius", "modulus", "calculus", "series", "cos", "axis"])
def test_reference_stripping_a_final_s_damages_terms(word):
    assert lemma(word) == word


def test_long_words_and_numbers_are_left_alone():
    assert lemmas("12345 " + "a" * 10_000) == ("12345", "a" * 10_000)


def test_one_matcher_answers_for_all_texts():
    matcher = NotionMatcher(["two primes", "composite", "Prime!"])
    assert matcher.occurs("prime") == (True, False, True)
    assert matcher.normal_form("Primes") == matcher.normal_form("prime")


def test_unknown_matching_is_refused():
    with pytest.raises(ValueError, match="'exact': use lemma or substring"):
        NotionMatcher([], "exact")
