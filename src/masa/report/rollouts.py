"""Every rollout of a run for the page's browser of rollouts: packed into the file, unpacked and drawn on demand."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.report.data import Row, number
from masa.report.document import text
from masa.report.samples import MAX_TEXT, clip

MOST_CHARACTERS = 100_000_000
"""Of all texts together, before they are compressed; of a longer run the last steps are kept."""

_FLAGS = ("gated", "audited")


@dataclass(frozen=True, slots=True)
class Packed:
    """Rollouts ready to stand in a page."""

    data: str
    """Base64 of gzip of JSON; empty where there are none. It holds no character that HTML knows."""
    rollouts: int
    first_step: int
    last_step: int
    is_whole: bool
    """Whether all of the run's rollouts are here."""


def pack(steps: Iterable[tuple[int, Sequence[Row]]]) -> Packed:
    """Packs steps, newest first, until they hold too many characters.

    The JSON: `texts` and `tasks`, each distinct one once, and `groups`, newest first, each [step, problem, place in
    texts, place in tasks, flags (1 gated, 2 audited), solutions, predictions]; a solution is [text, length, finish
    reason, correct, reward, advantage, hinted], a prediction [text, length, finish reason, reward, pass rate, length,
    notions]. What a row lacks, or has in a strange form, is null.
    """
    texts: dict[str, int] = {}
    tasks: dict[str, int] = {}
    groups: list[Any] = []
    characters = rollouts = 0
    kept: list[int] = []
    is_whole = True
    for step, rows in steps:
        characters += sum(min(len(row["text"]), MAX_TEXT) for row in rows if isinstance(row.get("text"), str))
        if kept and characters > MOST_CHARACTERS:
            is_whole = False
            break
        kept.append(step)
        rollouts += len(rows)
        groups += _groups(step, rows, texts, tasks)
    if not groups:
        return Packed("", 0, 0, 0, is_whole)
    found = {"texts": list(texts), "tasks": list(tasks), "groups": groups}
    plain = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = gzip.compress(plain.encode("utf-8", "replace"), compresslevel=6, mtime=0)
    return Packed(base64.b64encode(packed).decode("ascii"), rollouts, min(kept), max(kept), is_whole)


def browser(packed: Packed) -> str:
    """HTML of the browser's controls; its script fills in the rest."""
    if not packed.data:
        return ""
    span = f"{packed.rollouts:,} rollouts of steps {packed.first_step:,} to {packed.last_step:,}"
    rest = "" if packed.is_whole else " (earlier ones are in the run folder: they would make this file too large)"
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}"> {title}</label>'
        for name, title in (("gated", "gated"), ("audited", "audited"), ("cut", "cut"), ("hinted", "hinted"))
    )
    return f"""<section id="rollouts"><h2>Every rollout</h2>
<p class="lead">{text(span)}{text(rest)}, what was foretold beside what came of it. Keys: / search, n and p next and
previous page.</p>
<form class="filters" role="search" aria-label="Filter rollouts">
<label>Show <select name="kind"><option value="">all rollouts</option><option value="correct">correct answers</option>
<option value="wrong">wrong answers</option><option value="meta">predictions</option></select></label>
<fieldset><legend>Only</legend>{boxes}</fieldset>
<label>Task <select name="task"><option value="">all</option></select></label>
<label>Steps <input type="number" name="from" inputmode="numeric" aria-label="First step"> to
<input type="number" name="to" inputmode="numeric" aria-label="Last step"></label>
<label>Order <select name="order"><option value="">newest first</option><option value="old">oldest first</option>
<option value="far">furthest from what was foretold</option></select></label>
<label class="search">Search <input type="search" name="search" autocomplete="off" spellcheck="false"></label>
</form>
<p class="count" role="status" aria-live="polite"></p><div class="found"></div>
<nav class="pages" aria-label="Pages of rollouts"><button type="button" name="previous">← Previous</button>
<span></span><button type="button" name="next">Next →</button></nav></section>"""


def _groups(step: int, rows: Sequence[Row], texts: dict[str, int], tasks: dict[str, int]) -> Iterator[list[Any]]:
    by_problem: dict[str, list[Row]] = {}
    for row in rows:
        by_problem.setdefault(str(row.get("problem")), []).append(row)
    for problem, group in by_problem.items():
        first = group[0]
        question, task = (_text(first.get(name)) or "" for name in ("problem_text", "task"))
        yield [
            step,
            problem,
            texts.setdefault(question, len(texts)),
            tasks.setdefault(task, len(tasks)),
            sum(2**place for place, name in enumerate(_FLAGS) if first.get(name) is True),
            [_solution(row) for row in group if row.get("role") == "solution"],
            [_prediction(row) for row in group if row.get("role") == "meta"],
        ]


def _solution(row: Row) -> list[Any]:
    correct = row.get("correct")
    return [
        *_common(row),
        correct if isinstance(correct, bool) else None,
        _short(row.get("reward")),
        _short(row.get("advantage")),
        row.get("hinted") is True,
    ]


def _prediction(row: Row) -> list[Any]:
    said = row.get("prediction")
    said = said if isinstance(said, Mapping) else {}
    notions = said.get("notions")
    return [
        *_common(row),
        _short(row.get("reward")),
        _short(said.get("pass_rate")),
        _short(said.get("length")),
        [str(notion) for notion in notions] if isinstance(notions, list) else None,
    ]


def _common(row: Row) -> list[Any]:
    return [_text(row.get("text")), _short(row.get("length")), _text(row.get("finish_reason"))]


def _text(value: Any) -> str | None:
    return clip(value) if isinstance(value, str) else None


def _short(value: Any) -> float | int | None:
    found = number(value)
    if found is None:
        return None
    return int(found) if found.is_integer() else float(f"{found:.4g}")
