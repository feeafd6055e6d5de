"""`masa eval --policy adaptive`: how many problems a vote solves that stops in time, and for how many tokens."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from masa.cli.evaluate import measured_text
from masa.cli.loading import Policy
from masa.cli.measuring import Measuring, Options, prepare, show_progress
from masa.cli.spending import WHY, Spending, make_solver
from masa.cli.tables import table, wide_console
from masa.errors import UserError, unknown_key_message
from masa.evaluation.answers import EvaluationSet, Tell
from masa.evaluation.chosen import Chosen, ChosenScores, choose_all
from masa.evaluation.log_probe import percent
from masa.runs.answers import read_answers
from masa.runs.jsonlines import plain
from masa.solving import Solution, StopReason, Strategy

POLICIES = ("plain", "adaptive")


def find_spending(policy: str, samples: int, *, k: str | None, given: Mapping[str, Any]) -> Spending | None:
    """How tokens are spent under a policy; None for `plain`, under which every problem gets as many answers.

    Args:
        policy: one of `POLICIES`.
        samples: a problem, at most.
        k: of pass@k, which one chosen answer does not have.
        given: fields of `Spending`; None is its default.

    Raises:
        UserError: for an unknown policy, or options that it does not have.
    """
    if policy not in POLICIES:
        raise UserError(unknown_key_message("policy", policy, POLICIES, where="--policy"))
    wanted = {name: value for name, value in given.items() if value is not None}
    if policy == "plain":
        if wanted:
            option = next(iter(wanted)).replace("_", "-")
            raise UserError(f"--{option} belongs to --policy adaptive: add that, or leave it out")
        return None
    if k is not None:
        raise UserError("--k: --policy adaptive gives one answer a problem, of which there is no pass@k; leave it out")
    return Spending(samples=samples, **wanted)


@dataclass(frozen=True, slots=True)
class _Choose:
    """Solving as a callable that an evaluation can use."""

    policy: Policy
    strategy: Strategy
    budgets: Mapping[str, int | None]
    """By the name of the set."""

    def __call__(self, data: EvaluationSet, tell: Tell) -> list[Chosen]:
        solver = make_solver(data, self.policy, self.strategy)
        return [
            _chosen(one) for one in solver.solve(data.problems, data.rows, budget=self.budgets[data.name], tell=tell)
        ]


def _chosen(one: Solution) -> Chosen:
    return Chosen(
        text=one.text,
        answer=one.answer,
        samples=one.samples,
        solution_tokens=one.solution_tokens,
        meta_tokens=one.meta_tokens,
        likely_right=one.likely_right,
        stopped=one.stopped.value,
    )


def run_adaptive(model: str, options: Options, spending: Spending, *, as_json: bool) -> None:
    """Measure, write the folder, and print the figures.

    Raises:
        UserError: on anything the user can mend.
    """
    measuring = prepare("eval-adaptive", model, options)
    strategy = spending.make(measuring)
    if spending.learn_from is not None:
        _refuse_own_answers(measuring, spending.learn_from)
    budgets = _budgets(measuring, spending.budget)
    settings = spending.settings(strategy)
    folder = measuring.folder(**settings)
    console = Console(stderr=True, highlight=False)
    policy = measuring.load()
    measuring.tell_notes(console)
    choose = _Choose(policy, strategy, budgets)
    scores = []
    for data in [measuring.prepared(one, policy) for one in measuring.sets]:
        with show_progress(console, data.name, len(data.problems)) as tell:
            scores.append(choose_all(choose, data, folder, tell=tell))
    result = {
        "model": model,
        "folder": str(folder.path),
        "settings": measuring.settings() | settings,
        "sets": [plain(one) for one in scores],
        "tokens": sum(one.tokens for one in scores),
    }
    folder.write_result(result)
    if as_json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
        return
    _show(model, measuring, spending, scores)
    wide_console().print(f"every answer: {folder.path}", soft_wrap=True, markup=False)


def _refuse_own_answers(measuring: Measuring, path: Path) -> None:
    """Nothing may be learnt from the right answers to what is measured."""
    learnt_from = {one["digest"] for one in read_answers(path)[0]["data"].values()}
    for name, one in measuring.settings()["data"].items():
        if one["digest"] in learnt_from:
            raise UserError(f"--learn-from {path} holds graded answers to {name} itself: learn from other problems")


def _budgets(measuring: Measuring, budget: int | None) -> dict[str, int | None]:
    """Each set's part of the budget, by its number of problems."""
    if budget is None:
        return {one.name: None for one in measuring.sets}
    total = sum(len(one.problems) for one in measuring.sets)
    found = {one.name: budget * len(one.problems) // total for one in measuring.sets}
    if poor := next((name for name, part in found.items() if part < 1), None):
        raise UserError(f"--budget {budget} leaves not one token for {poor}: raise it")
    return {**found}


def _show(model: str, measuring: Measuring, spending: Spending, scores: Sequence[ChosenScores]) -> None:
    out = wide_console()
    requests = measuring.requests
    of_budget = f" of {spending.budget:,}" if spending.budget else ""
    out.print(
        f"{model}: one answer a problem by strategy {spending.strategy}, at most {spending.samples} samples, "
        f"temperature {requests.temperature:g}, at most {requests.max_tokens:,} tokens a sample; "
        f"{sum(one.tokens for one in scores):,} tokens generated{of_budget}",
        soft_wrap=True,
        markup=False,
    )
    out.print()
    made = table(
        "Accuracy of the answer (95 % interval over problems), and what it took",
        *("data", "problems", "accuracy", "tokens\na problem", "of these for\npredictions", "samples"),
        *("no\nanswer", "said to be\nright", "Brier\nscore"),
    )
    for one in scores:
        made.add_row(
            one.name,
            f"{one.problems:,}",
            measured_text(one.accuracy),
            f"{one.tokens_a_problem.value:,.1f} ({one.tokens_a_problem.low:,.0f}..{one.tokens_a_problem.high:,.0f})",
            percent(one.meta_tokens / max(1, one.tokens)),
            f"{one.samples_a_problem:.1f}",
            percent(one.unanswered_share),
            *("-" if one.likely_right is None else percent(one.likely_right),),
            *("-" if one.brier is None else f"{one.brier:.3f}",),
        )
    if len(scores) > 1:
        made.add_row("average", "", f"{100 * statistics.fmean(one.accuracy.value for one in scores):.1f} %")
    out.print(made)
    out.print()
    for reason in StopReason:
        number = sum(one.stopped.get(reason.value, 0) for one in scores)
        if number:
            out.print(f"{number:,} stopped: {WHY[reason]}")
    out.print()
