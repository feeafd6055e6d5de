"""A few rollouts to read. Whatever a model wrote is shown as text."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from masa.report.data import Row, number
from masa.runs.excerpts import Excerpt, excerpts

PROBLEMS, ROLLOUTS, MAX_TEXT = 4, 2, 3000
"""Problems shown, rollouts of each role shown per problem, characters shown of one text."""


def samples(rows: Sequence[Row]) -> str:
    """HTML of some of a step's problems with some of their rollouts; empty without rollouts."""
    return "".join(map(_problem, excerpts(rows, PROBLEMS)))


def _problem(one: Excerpt) -> str:
    first = one.rows[0]
    title = f"Problem {one.key}" + (f" · {first['task']}" if first.get("task") else "")
    flags = [word for name, word in (("gated", "gated"), ("audited", "audited")) if first.get(name)]
    if one.solutions:
        flags.insert(0, f"{one.correct} of {len(one.solutions)} correct")
    shown = [*one.some_solutions(ROLLOUTS), *one.predictions[:ROLLOUTS]]
    text = first.get("problem_text")
    head = f"<h3>{_text(title)}</h3>" + (f"<p>{_text(', '.join(flags))}</p>" if flags else "")
    question = f"<pre>{_text(clip(text))}</pre>" if isinstance(text, str) else ""
    return f'<div class="card problem">{head}{question}{"".join(map(_rollout, shown))}</div>'


def _rollout(row: Mapping[str, Any]) -> str:
    is_meta = row.get("role") == "meta"
    if is_meta:
        mark = '<span class="mark meta">prediction</span>'
    elif row.get("correct") is True:
        mark = '<span class="mark good">✓ correct</span>'
    elif row.get("correct") is False:
        mark = '<span class="mark bad">✗ incorrect</span>'
    else:
        mark = '<span class="mark meta">ungraded</span>'
    facts = []
    if (length := number(row.get("length"))) is not None:
        facts.append(f"{length:.0f} tokens")
    if row.get("finish_reason"):
        facts.append(f"ended by {row['finish_reason']}")
    values = {name: number(row.get(name)) for name in ("reward", "advantage")}
    facts += [f"{name} {value:.2f}" for name, value in values.items() if value is not None]
    if row.get("hinted"):
        facts.append("with a hint")
    if is_meta and isinstance(row.get("prediction"), Mapping):
        facts.append(f"read as {json.dumps(row['prediction'], ensure_ascii=False)}")
    text = row.get("text")
    body = f"<pre>{_text(clip(text))}</pre>" if isinstance(text, str) else ""
    return f'<div class="rollout"><p>{mark} · {_text(" · ".join(facts))}</p>{body}</div>'


def clip(text: str) -> str:
    """A text without the middle of what is too long to show."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[: MAX_TEXT // 2]}\n[… {len(text) - MAX_TEXT} characters left out …]\n{text[-MAX_TEXT // 2 :]}"


def _text(text: str) -> str:
    return html.escape(text)
