"""What to imitate before the policy can write a valid prediction: the truth about its own rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from masa.awareness.expert import clamped_mean, format_prediction, pass_rate_steps, reasoning_of
from masa.awareness.notions import lemma, lemmas, stop_lemmas, words
from masa.awareness.parsing import END_OF_REASONING
from masa.awareness.prompts import DEFAULT_NOTION_KEY, PASS_RATE_STEPS
from masa.records import Outcome

FAR_COMMONER = 0.25
"""A word is far commoner in correct rollouts if its share there is this much above its share in incorrect ones."""


def warm_start_target(
    meta_text: str,
    outcome: Outcome,
    problem_text: str,
    *,
    min_length: int,
    max_length: int,
    notion_key: str = DEFAULT_NOTION_KEY,
    max_notions: int = 4,
) -> str:
    """A meta response with the true statistics of the policy's own rollouts; no outside data.

    The reasoning is the rollout's own text up to the first `</meta>` and the white space after it (`reasoning_of`);
    without the tag it is a few words that state the same numbers. pass_rate is 8 p rounded half up. solution_length is
    the rounded mean over C, the correct rollouts that ended by themselves; where there are none, over the correct ones;
    where nothing was correct, over all; clamped to the bounds. The notions are those of `own_notions`.
    """
    correct = [length for length, right in zip(outcome.lengths, outcome.correct, strict=True) if right]
    length = clamped_mean(outcome.correct_lengths or correct or outcome.lengths, min_length, max_length)
    steps = pass_rate_steps(outcome)
    notions = own_notions(outcome, problem_text, limit=max_notions)
    stated = f"<meta>{steps} of {PASS_RATE_STEPS} right, {length} tokens.{END_OF_REASONING}"
    return (reasoning_of(meta_text) or stated) + format_prediction(notions, steps, length, notion_key)


def own_notions(outcome: Outcome, problem_text: str, *, limit: int = 4) -> tuple[str, ...]:
    """Words that mark the policy's own correct rollouts, the best first.

    A word's share is over rollouts that use it (0/1 each), by lemma. Words far commoner in correct than in incorrect
    rollouts come first, by the difference of shares; where there are none, or all rollouts are correct, the words
    most frequent in correct ones; where nothing is correct, in all. Stop words, words of the problem, numbers and
    words of under three letters are out. Ties go by total use, then by alphabet.
    """
    known = stop_lemmas() | frozenset(lemmas(problem_text))
    sides = {
        right: [
            Counter(word for word in words(text) if _is_content(word, known))
            for text, correct in zip(outcome.texts, outcome.correct, strict=True)
            if correct == right
        ]
        for right in (True, False)
    }
    base = sides[True] or sides[False]
    share = _shares(base)
    other = _shares(sides[False]) if sides[True] else {}
    surface: dict[str, Counter[str]] = {}
    for rollout in base:
        for word, count in rollout.items():
            surface.setdefault(lemma(word), Counter())[word] += count
    difference = {form: value - other.get(form, 0.0) for form, value in share.items()}
    far = [form for form, value in difference.items() if other and value >= FAR_COMMONER]
    value = difference if far else share
    ranked = sorted(far or share, key=lambda form: (-round(value[form], 9), -surface[form].total(), form))
    return tuple(min(surface[form], key=lambda word: (-surface[form][word], word)) for form in ranked[:limit])


def _is_content(word: str, known: frozenset[str]) -> bool:
    return word.isalpha() and len(word) > 2 and word not in known and lemma(word) not in known


def _shares(rollouts: Sequence[Counter[str]]) -> dict[str, float]:
    """Share of rollouts that use each lemma."""
    counts = Counter(form for rollout in rollouts for form in {lemma(word) for word in rollout})
    return {form: count / len(rollouts) for form, count in counts.items()}
