"""`masa solve`: answers by vote, spent by what the model foretells of itself."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from masa.cli.evaluation_data import NamedSet
from masa.cli.loading import NamedModel
from masa.cli.measuring import Measuring, Options, prepare, show_progress
from masa.cli.spending import WHY, Spending, make_solver
from masa.cli.tables import printable, table, wide_console
from masa.errors import UserError
from masa.evaluation.log_probe import percent
from masa.grading import check_kind
from masa.grading.equality import check_voted
from masa.records import Problem
from masa.runs.folder import EVALUATIONS, read_evaluations
from masa.runs.jsonlines import plain, without_nonfinite
from masa.solving import Solution, Strategy
from masa.tasks.dataset import load_problems

_TEXTS = ("", ".txt", ".text", ".md")
"""Endings of files with one question a line."""
_SHOWN = 24
"""Characters of a question, an answer or a notion where several are shown."""
_KNOWS_ITSELF = 0.2
"""Rank correlation below which predictions are not worth their tokens."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to answer.

    Raises:
        UserError: unless it is one question or one file.
    """

    question: str | None = None
    file: Path | None = None
    problem_column: str = "problem"
    kind: str | None = None

    def __post_init__(self) -> None:
        if (self.question is None) == (self.file is None):
            raise UserError(
                "masa solve answers one question (--question TEXT) or those of a file (--file FILE): give one"
            )
        if self.question is not None and not self.question.strip():
            raise UserError("--question is empty: give a text")

    def problems(self, limit: int | None) -> NamedSet:
        """The questions.

        Raises:
            UserError: for a file that cannot be read, a faulty row, or a kind whose answers are no votes.
        """
        if self.kind is not None:
            check_kind(self.kind, where="--kind")
        if self.question is not None:
            found: Sequence[Problem] = [Problem(0, self.question, "", self.kind or "math")]
        elif self.file is not None and self.file.suffix.casefold() not in _TEXTS:
            found = load_problems(
                self.file, problem_column=self.problem_column, answer_column=None, kind=self.kind, limit=limit
            ).problems
        else:
            found = self._lines()[:limit]
        for problem in found:
            check_voted(problem)
            if any("\ud800" <= character <= "\udfff" for character in problem.text):  # no tokenizer takes it
                raise UserError(f"question {problem.key} holds half a character (a lone surrogate): give valid Unicode")
        return NamedSet("the questions", tuple(found))

    def _lines(self) -> list[Problem]:
        assert self.file is not None
        try:
            text = self.file.expanduser().read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{self.file} is not UTF-8: give a text with one question a line, or JSONL") from None
        except OSError as error:
            raise UserError(f"{self.file} cannot be read ({error.strerror}): check the path") from None
        # By "\n" alone: other line ends may stand inside a question.
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if not lines:
            raise UserError(f"{self.file} holds no question: give a text with one a line, or JSONL")
        return [Problem(key, line, "", self.kind or "math") for key, line in enumerate(lines)]


def run(model: str, options: Options, asked: Asked, spending: Spending, *, as_json: bool) -> None:
    """Answer, and print answers and what they took.

    Raises:
        UserError: on anything the user can mend.
    """
    questions = asked.problems(options.limit)
    measuring = prepare("solve", model, options, [questions])
    strategy = spending.make(measuring)
    policy = measuring.load()
    data = measuring.prepared(questions, policy)
    solver = make_solver(data, policy, strategy)
    console = Console(stderr=True, highlight=False)
    with show_progress(console, data.name, len(data.problems)) if console.is_terminal else nullcontext() as tell:
        solutions = solver.solve(data.problems, data.rows, budget=spending.budget, tell=tell)
    if as_json:
        found = {
            "model": model,
            "settings": _settings(measuring) | spending.settings(strategy),
            "tokens": sum(one.tokens for one in solutions),
            "solutions": [plain(one) | {"tokens": one.tokens, "share": one.share} for one in solutions],
        }
        sys.stdout.write(json.dumps(without_nonfinite(found)[0], allow_nan=False) + "\n")
        return
    _show(measuring, spending, strategy, solutions)


def _settings(measuring: Measuring) -> dict[str, Any]:
    settings = measuring.settings()
    for name in ("command", "model", "n"):
        settings.pop(name)
    return settings


def _show(measuring: Measuring, spending: Spending, strategy: Strategy, solutions: Sequence[Solution]) -> None:
    out = wide_console()

    def say(text: str) -> None:
        out.print(text, soft_wrap=True, markup=False)

    if len(solutions) == 1:
        _show_one(solutions[0], say)
    else:
        _show_all(solutions, out)
    say("")
    meta, spent = sum(one.meta_tokens for one in solutions), sum(one.tokens for one in solutions)
    of_budget = f" of {spending.budget:,}" if spending.budget else ""
    parts = f": {spent - meta:,} for answers, {meta:,} for predictions" if strategy.foretelling else ""
    samples = sum(one.samples for one in solutions)
    say(f"{measuring.model.name}, {spending.strategy}: {samples:,} samples, {spent:,} tokens{of_budget}{parts}")
    if any(one.answer is None for one in solutions):
        say(
            "note: to be counted an answer must be stated, in a box or as `Answer: ...`: ask for that with --prompt, "
            'for example --prompt "{problem} Give the final answer in \\boxed{}.", or raise --max-tokens'
        )
    if strategy.foretelling and not any(one.foretold and one.foretold.pass_rate is not None for one in solutions):
        say(
            "note: no prediction could be used, so nothing was spent by prediction: the model must be taught to "
            "foretell first, or asked with the --meta-prompt of its training; --strategy adaptive makes none"
            if any(one.foretold for one in solutions)
            else "note: the budget left no room for predictions: raise it, or lower --max-meta-tokens"
        )
    elif strategy.foretelling and (rank := foretold_rank(measuring.model)) is not None and rank < _KNOWS_ITSELF:
        say(
            f"note: at the run's last evaluation the rank correlation of foretold and true pass rates was {rank:.2f}, "
            "so these predictions say little: --strategy adaptive spends nothing on them"
        )


def foretold_rank(model: NamedModel) -> float | None:
    """Spearman's correlation of foretold and true pass rates when the model's run last measured it.

    0 where one value was foretold for all; None where no run did, or the model is one of its earlier checkpoints.
    """
    folder = Path(model.path).parent
    if Path(model.path).name != "model" or not model.settings or not (folder / EVALUATIONS).exists():
        return None
    told = [row for row in read_evaluations(folder) if row.get("pass_rate_problems")]
    return float(told[-1].get("pass_rate_spearman") or 0.0) if told else None


def _show_one(one: Solution, say: Any) -> None:
    say(f"answer: {'none' if one.answer is None else printable(one.answer)}")
    if one.answer is not None:
        others = ", ".join(f"{_short(vote.answer)} ({vote.count})" for vote in one.votes[1:6])
        more = f"; others: {others}" if others else ""
        votes = f"{one.votes[0].count} of {one.samples} samples"
        say(f"confidence: {percent(one.confidence)} that it keeps its lead; {votes}{more}")
        basis = "the votes alone" if one.foretold is None else "the votes and what was foretold"
        say(f"likely right: {percent(one.likely_right)}, by {basis}")
    if one.foretold is not None:
        say(f"foretold: {_foretold(one)}")
    say(f"stopped: {WHY[one.stopped]}")


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _foretold(one: Solution) -> str:
    told = one.foretold
    assert told is not None
    said = [f"{told.valid} of {told.predictions} predictions name a pass rate"]
    if told.pass_rate is not None:
        said.append(f"right {percent(told.pass_rate)} of the time")
    if told.length is not None:
        limit = f", so a limit of {told.limit:,}" if told.limit is not None else ""
        said.append(f"in {told.length:,.0f} tokens{limit}")
    said.append(f"{told.samples} samples worth it")
    if told.notions:
        said.append("by " + ", ".join(map(_short, told.notions[:4])))
    return "; ".join(said)


def _show_all(solutions: Sequence[Solution], out: Console) -> None:
    made = table(
        "",
        *("question", "answer", "keeps\nits lead", "likely\nright", "votes", "samples"),
        *("foretold\nrate", "foretold\ntokens", "limit", "tokens", "stopped"),
    )
    for one in solutions:
        told = one.foretold
        made.add_row(
            *(Text(_short(text)) for text in (one.question, "-" if one.answer is None else one.answer)),
            percent(one.confidence),
            percent(one.likely_right),
            str(one.votes[0].count if one.votes else 0),
            str(one.samples),
            "-" if told is None or told.pass_rate is None else percent(told.pass_rate),
            "-" if told is None or told.length is None else f"{told.length:,.0f}",
            "-" if told is None or told.limit is None else f"{told.limit:,}",
            f"{one.tokens:,}",
            one.stopped.value,
        )
    out.print(made)
    reasons = Counter(one.stopped for one in solutions)
    out.print()
    out.print("; ".join(f"{number:,} stopped: {WHY[reason]}" for reason, number in reasons.most_common()))
