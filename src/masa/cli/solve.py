"""`masa solve`: answers by vote, spent by what the model foretells of itself."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Console
from rich.text import Text

from masa.awareness import Cutoff, CutoffRule, LengthCalibration
from masa.cli.evaluation_data import NamedSet
from masa.cli.loading import NamedModel, Policy
from masa.cli.measuring import Measuring, Options, prepare, show_progress
from masa.cli.tables import printable, table, wide_console
from masa.errors import UserError, unknown_key_message
from masa.evaluation.answers import EvaluationSet
from masa.evaluation.log_probe import percent
from masa.evaluation.savings import FACTOR
from masa.grading import check_kind
from masa.grading.equality import check_voted
from masa.records import Problem
from masa.runs.jsonlines import plain, without_nonfinite
from masa.solving import AdaptiveConsistency, Foretelling, Solution, Solver, StopReason, Strategy, make_strategy
from masa.solving.stopping import Posterior
from masa.solving.strategy import PREDICTIONS, SAMPLES, parts_of
from masa.tasks.dataset import load_problems

NO_CUTOFF = "none"
_TEXTS = ("", ".txt", ".text", ".md")
"""Endings of files with one question a line."""
_SHOWN = 24
"""Characters of a question, an answer or a notion where several are shown."""
_WHY = {
    StopReason.SETTLED: "the vote was settled",
    StopReason.DECIDED: "the samples left could not have changed the answer",
    StopReason.FORETOLD: "more samples were not worth it by what was foretold",
    StopReason.SAMPLES: "the most samples were drawn",
    StopReason.BUDGET: "the budget was spent",
}


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


@dataclass(frozen=True, slots=True)
class Spending:
    """How tokens are spent; None is the default of a strategy that has the part.

    Raises:
        UserError: for a value out of range, or one of a part that the strategy does not have.
    """

    strategy: str = "both"
    samples: int = SAMPLES
    budget: int | None = None
    threshold: float | None = None
    posterior: str | None = None
    predictions: int | None = None
    cutoff: str | None = None
    cutoff_factor: float | None = None
    hints: bool = False

    def __post_init__(self) -> None:
        stops, foretells = parts_of(self.strategy)
        least = {"samples": self.samples, "budget": self.budget, "predictions": self.predictions}
        for name, value in least.items():
            if value is not None and value < 1:
                raise UserError(f"--{name} {value}: it must be at least 1")
        parts = {"threshold": stops, "posterior": stops}
        parts |= dict.fromkeys(("predictions", "cutoff", "cutoff_factor", "hints"), foretells)
        for name, is_there in parts.items():
            value = getattr(self, name)
            if not is_there and value is not None and value is not False:
                what = "stops by no rule" if name in ("threshold", "posterior") else "foretells nothing"
                raise UserError(f"--{name.replace('_', '-')}: strategy {self.strategy} {what}; leave it out")
        rules = (*get_args(CutoffRule), NO_CUTOFF)
        if self.cutoff is not None and self.cutoff not in rules:
            raise UserError(unknown_key_message("cutoff rule", self.cutoff, rules, where="--cutoff"))
        if self.cutoff_factor is not None and self.cutoff not in (None, "paper", "median"):
            raise UserError(f"--cutoff-factor: cutoff {self.cutoff} has no factor; leave it out")

    @property
    def m(self) -> int:
        """Predictions a question."""
        return (self.predictions or PREDICTIONS) if parts_of(self.strategy)[1] else 0

    def make(self, measuring: Measuring) -> Strategy:
        """The strategy.

        Raises:
            UserError: for a value out of range.
        """
        try:
            stopping = AdaptiveConsistency()
            if self.threshold is not None:
                stopping = replace(stopping, threshold=self.threshold)
            if self.posterior is not None:
                stopping = replace(stopping, posterior=cast(Posterior, self.posterior))
            return make_strategy(
                self.strategy,
                samples=self.samples,
                stopping=stopping,
                foretelling=lambda: Foretelling(self.m, cutoff=self._cutoff(measuring), hints=self.hints),
            )
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from None

    def _cutoff(self, measuring: Measuring) -> Cutoff | None:
        if self.cutoff == NO_CUTOFF:
            return None
        calibration = length_calibration(measuring.model)
        is_calibrated = calibration is not None and calibration.n >= calibration.least
        rule = self.cutoff or ("quantile" if is_calibrated and self.cutoff_factor is None else "paper")
        if rule != "paper" and not is_calibrated:
            raise UserError(
                f"--cutoff {rule}: {measuring.model.name} comes with no lengths to calibrate by (a run's checkpoint "
                "holds them, of runs with a cutoff); use --cutoff paper"
            )
        return Cutoff(
            measuring.requests.seed,
            rule=cast(CutoffRule, rule),
            factor=FACTOR if self.cutoff_factor is None else self.cutoff_factor,
            minimum=measuring.min_length,
            maximum=measuring.requests.max_tokens,
            calibration=calibration,
        )


def length_calibration(model: NamedModel) -> LengthCalibration | None:
    """The ratios of true to foretold lengths that a model's own run ended with; None where there are none.

    Of a checkpoint they are its own, of a run's final model those of its last checkpoint.
    """
    from masa.training.checkpoint import STATE_FILE, latest

    path = Path(model.path)
    if not model.settings or not path.is_dir():
        return None
    folder = path if (path / STATE_FILE).exists() else latest(path.parent)
    if folder is None:
        return None
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8")).get("cutoff")
        calibration = LengthCalibration()
        calibration.load_state_dict(state["calibration"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # of a run without a cutoff, or an older one
        return None
    return calibration


def run(model: str, options: Options, asked: Asked, spending: Spending, *, as_json: bool) -> None:
    """Answer, and print answers and what they took.

    Raises:
        UserError: on anything the user can mend.
    """
    questions = asked.problems(options.limit)
    measuring = prepare("solve", model, options, [questions])
    if measuring.requests.temperature == 0 and spending.samples > 1:
        raise UserError("--temperature 0 gives the same answer each time, which is no vote: give --samples 1")
    strategy = spending.make(measuring)
    policy = measuring.load()
    data = measuring.prepared(questions, policy)
    solver = make_solver(measuring, policy, data, strategy)
    console = Console(stderr=True, highlight=False)
    with show_progress(console, data.name, len(data.problems)) if console.is_terminal else nullcontext() as tell:
        solutions = solver.solve(data.problems, data.rows, budget=spending.budget, tell=tell)
    if as_json:
        found = {
            "model": model,
            "settings": _settings(measuring, spending, strategy),
            "tokens": sum(one.tokens for one in solutions),
            "solutions": [plain(one) | {"tokens": one.tokens, "share": one.share} for one in solutions],
        }
        sys.stdout.write(json.dumps(without_nonfinite(found)[0], allow_nan=False) + "\n")
        return
    _show(measuring, spending, strategy, solutions)


def make_solver(measuring: Measuring, policy: Policy, data: EvaluationSet, strategy: Strategy) -> Solver:
    """What answers the questions of a data set."""
    return Solver(
        policy.engine,
        data.sampler.prompts,
        measuring.requests,
        policy.decode,
        strategy,
        min_length=measuring.min_length,
        positions=policy.positions,
    )


def _settings(measuring: Measuring, spending: Spending, strategy: Strategy) -> dict[str, Any]:
    settings = measuring.settings()
    for name in ("command", "model", "n"):
        settings.pop(name)
    cutoff = None if strategy.foretelling is None else strategy.foretelling.cutoff
    return settings | {
        "strategy": spending.strategy,
        "samples": spending.samples,
        "budget": spending.budget,
        "threshold": None if strategy.stopping is None else strategy.stopping.threshold,
        "posterior": None if strategy.stopping is None else strategy.stopping.posterior,
        "cutoff": None if cutoff is None else {"rule": cutoff.rule, "factor": cutoff.factor, "ratio": cutoff.ratio},
        "hints": spending.hints,
    }


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
    say(f"stopped: {_WHY[one.stopped]}")


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
    out.print("; ".join(f"{number:,} stopped: {_WHY[reason]}" for reason, number in reasons.most_common()))
