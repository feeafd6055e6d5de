"""`masa eval`: how many problems a model solves, on data sets by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from masa.cli.measuring import Options, prepare
from masa.cli.tables import table, wide_console
from masa.errors import UserError
from masa.evaluation.log_probe import percent
from masa.evaluation.scores import Average, Measured, Scores, SetScores, score
from masa.runs.jsonlines import plain


def run(model: str, options: Options, *, k: str | None, as_json: bool) -> None:
    """Measure, write the folder, and print the figures.

    Raises:
        UserError: on anything the user can mend.
    """
    ks = _ks(k, options.n)
    measuring = prepare("eval", model, options)
    folder = measuring.folder()
    scores = score(measuring.collect(measuring.load(), folder, Console(stderr=True, highlight=False)), ks)
    result = {"model": model, "folder": str(folder.path), "settings": measuring.settings(), **plain(scores)}
    folder.write_result(result)
    if as_json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
        return
    settings = measuring.requests
    how = "greedy" if settings.temperature == 0 else f"temperature {settings.temperature:g}"
    if settings.top_p < 1:
        how += f", top-p {settings.top_p:g}"
    out = wide_console()
    out.print(
        f"{model}: {options.n} answers a problem, {how}, at most {settings.max_tokens:,} tokens; "
        f"{scores.tokens:,} tokens generated",
        soft_wrap=True,
        markup=False,
    )
    out.print()
    for one in _tables(scores, ks):
        out.print(one)
        out.print()
    out.print(f"every answer: {folder.path}", soft_wrap=True, markup=False)


def _ks(k: str | None, n: int) -> list[int]:
    if k is None:
        return [1, n] if n > 1 else [1]
    try:
        ks = sorted({int(part) for part in k.split(",")})
    except ValueError:
        raise UserError(f"--k {k}: write whole numbers joined by commas, for example 1,8") from None
    for value in ks:
        if not 1 <= value <= n:
            raise UserError(f"--k {value}: pass@k needs 1 <= k <= n, and n is {n}; raise --n or lower --k")
    return ks


def _tables(scores: Scores, ks: Sequence[int]) -> list[Table]:
    n = scores.sets[0].n
    with_majority = n > 2  # of one or two answers a majority is nothing but their mean
    accuracy = table(
        "Accuracy (95 % interval over problems)",
        *("data", "problems", *(f"pass@{k}" for k in ks)),
        *([f"maj@{n}"] if with_majority else []),
        *(["spread"] if n > 1 else []),
    )
    rows: list[SetScores | Average] = [*scores.sets, *([scores.average] if scores.average else [])]
    for row in rows:
        cells = [measured_text(row.pass_at_k[k]) for k in ks]
        if with_majority:
            cells.append(measured_text(row.majority_at_n))
        if isinstance(row, Average):
            accuracy.add_row("average", "", *cells, *([""] if n > 1 else []))
        else:
            spread = [] if row.spread is None else [f"±{100 * row.spread:.1f}"]
            accuracy.add_row(row.name, f"{row.problems:,}", *cells, *spread)
    answers = table(
        "Answers",
        *("data", "ended\nby itself", "at the\nlimit", "no final\nanswer", "mean\ntokens", "if\nright", "if\nwrong"),
    )
    for one in scores.sets:
        answers.add_row(one.name, *_answer_cells(one))
    return [accuracy, answers]


def _answer_cells(one: SetScores) -> list[str]:
    stopped = one.finish_reasons.get("stop", 0) / max(1, sum(one.finish_reasons.values()))
    shares = (stopped, one.truncated_share, one.unanswered_share)
    lengths = (one.length.mean, one.length.correct, one.length.incorrect)
    return [*map(percent, shares), *("-" if tokens is None else f"{tokens:,.1f}" for tokens in lengths)]


def measured_text(value: Measured) -> str:
    """A share with its interval."""
    return f"{100 * value.value:.1f} % ({100 * value.low:.0f}..{100 * value.high:.0f})"
