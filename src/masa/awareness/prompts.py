"""Meta prompts and hints: what the policy is asked about itself, and how a prediction helps a solution rollout.

A template is plain text with the placeholders `{problem}`, `{min_length}` and `{max_length}` (tokens of a response).
Substitution is one pass over the template alone, so braces in a problem are never read as placeholders. Other braces
in a template are literal; `{{name}}` writes `{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from masa.errors import UserError, unknown_key_message
from masa.records import Prediction
from masa.seeding import Purpose, derive_random

PASS_RATE_STEPS = 8
"""The meta prompt asks for the pass rate as an integer 0..8: a coarse grid keeps its variance low."""

DEFAULT_NOTION_KEY = "math_notion"

_PLACEHOLDERS = ("problem", "min_length", "max_length")
_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")
_NOTION_KEY = re.compile(r"\b[a-z]+(?:_[a-z]+)*_notions?\b")


@dataclass(frozen=True, slots=True)
class MetaPrompt:
    """A meta prompt template.

    Raises:
        ValueError: if the text lacks `{problem}` or holds an unknown placeholder.
    """

    text: str
    notion_key: str = DEFAULT_NOTION_KEY
    """Name of the JSON key that holds the notions."""

    def __post_init__(self) -> None:
        names = [name for _, name in _PLACEHOLDER.findall(self.text) if name]
        for name in names:
            if name not in _PLACEHOLDERS:
                raise ValueError(
                    f"unknown placeholder {{{name}}} in the meta prompt: use {{problem}}, {{min_length}} and "
                    f"{{max_length}}, or write {{{{{name}}}}} for the literal text"
                )
        if "problem" not in names:
            raise ValueError("the meta prompt lacks the placeholder {problem}")

    @classmethod
    def from_text(cls, text: str) -> MetaPrompt:
        """A template of the user's own; its notion key is the first word of the form `<domain>_notion` in it."""
        key = _NOTION_KEY.search(text)
        return cls(text, key.group() if key else DEFAULT_NOTION_KEY)

    def fill(self, problem_text: str, *, min_length: int, max_length: int) -> str:
        """The prompt for one problem; lengths in tokens."""
        values = {"problem": problem_text, "min_length": str(min_length), "max_length": str(max_length)}
        return _PLACEHOLDER.sub(lambda m: f"{{{m[1]}}}" if m[1] else values[m[2]], self.text)


def _full(notion_key: str, notions: str, notion_example: str, pass_example: str, length_example: str) -> MetaPrompt:
    """The long template; the arguments are the domain's words for notions and one illustration a component."""
    return MetaPrompt(
        f"""Do not solve the problem below. Foretell how your own attempts would turn out, if you tried it 8 times.

First think step by step between <meta> and </meta> about three things:
1. Pass rate: how many of your 8 attempts would end in the right answer, and why. For example: {pass_example}
2. Length: how many tokens an attempt that succeeds would take, and why. For example: {length_example}
3. Notions: which {notions} your successful attempts would use and the failing ones would miss. For example: \
{notion_example} Leave out every notion that the problem already names.

After </meta> write one JSON object and nothing else, with these keys:
- "{notion_key}": list of strings, the notions
- "pass_rate": integer from 0 to 8, the number of right attempts
- "solution_length": integer from {{min_length}} to {{max_length}}, the tokens of a successful attempt

Problem:
{{problem}}""",
        notion_key,
    )


TEMPLATES: dict[str, MetaPrompt] = {
    "math": _full(
        "math_notion",
        "theorems, techniques or concepts",
        "a question about the last digits of a power calls for modular exponentiation and Euler's theorem.",
        "the counting is routine, but one of the cases is easy to count twice, so I would slip in 2 attempts of 8: 6.",
        "two short substitutions and a check take some 15 lines of 25 tokens each, about 375 tokens.",
    ),
    "logic": _full(
        "logic_notion",
        "inference rules or strategies",
        "a seating puzzle with many conditions calls for case analysis and elimination.",
        "five statements exclude one another in plain sight, but I lose track in long chains, so perhaps 5 of 8.",
        "four cases of about 60 tokens each and a conclusion make about 280 tokens.",
    ),
    "science": _full(
        "science_notion",
        "laws, principles or concepts",
        "a question about a cooling gas at fixed volume calls for the ideal gas law.",
        "the formula is familiar, but the units must be converted twice, so about 6 attempts of 8 would be right.",
        "naming the law, converting and inserting take about 200 tokens.",
    ),
    "code": _full(
        "code_notion",
        "algorithms, data structures or techniques",
        "a question about shortest routes with equal steps calls for breadth-first search and a queue.",
        "the algorithm is clear, but the empty input is easily forgotten, so about 5 of 8 would pass all tests.",
        "a plan of 100 tokens and a function of 30 lines make about 450 tokens.",
    ),
    "brief": MetaPrompt(
        "Foretell your own solutions: math_notion, pass_rate 0-8, solution_length {min_length}-{max_length}.\n{problem}"
    ),
}
"""Templates by name. `brief` is for small models that were taught the format beforehand."""


def resolve_template(template: str | MetaPrompt) -> MetaPrompt:
    """A template from its name, from a user's own text (anything that holds a brace) or as it is.

    Raises:
        UserError: for a name that is not known, naming the nearest one.
        ValueError: for an invalid text.
    """
    if isinstance(template, MetaPrompt):
        return template
    if template in TEMPLATES:
        return TEMPLATES[template]
    if "{" in template or "\n" in template:
        return MetaPrompt.from_text(template)
    raise UserError(unknown_key_message("meta prompt", template, TEMPLATES) + "; or give a text with {problem}")


def build_meta_prompt(
    problem_text: str, template: str | MetaPrompt = "math", *, min_length: int, max_length: int
) -> str:
    """The meta prompt for a problem (paper arXiv 2510.03259, section 3.2 and appendix A, in our own words).

    Args:
        problem_text: the question as the user wrote it; any character is safe.
        template: a name in `TEMPLATES`, a text with placeholders, or a `MetaPrompt`.
        min_length: least number of tokens the policy may foretell.
        max_length: the run's limit on *response* tokens.
    """
    if not 1 <= min_length <= max_length:
        raise ValueError(f"lengths must satisfy 1 <= min_length <= max_length, got {min_length} and {max_length}")
    return resolve_template(template).fill(problem_text, min_length=min_length, max_length=max_length)


def add_hint(problem_text: str, notions: Sequence[str]) -> str:
    """The problem with one more sentence that names the notions; unchanged when there are none."""
    named = [" ".join(notion.split()) for notion in notions]
    named = list(dict.fromkeys(notion for notion in named if notion))
    if not named:
        return problem_text
    return f"{problem_text}\n\nThese notions may be of use here: {', '.join(named)}."


def draw_hint(
    predictions: Sequence[Prediction], *, run_seed: int, step: int, key: int, sample: int
) -> tuple[str, ...] | None:
    """The notions of one valid prediction for one solution rollout; None when no valid prediction names any.

    The draw depends on (run seed, step, problem key, sample index) alone.
    """
    candidates = [p.notions for p in predictions if p.is_valid and p.notions]
    if not candidates:
        return None
    return derive_random(run_seed, Purpose.HINT, step, key, sample).choice(candidates)
