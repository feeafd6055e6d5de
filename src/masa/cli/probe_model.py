"""`masa probe MODEL`: does it know what it can do, and what would that save?"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from masa.cli.measuring import Measuring, Options, prepare
from masa.cli.tables import share_text, table, wide_console
from masa.errors import UserError
from masa.evaluation.answers import Answers, Grader
from masa.evaluation.foresight import Correlation, Foresight
from masa.evaluation.log_probe import percent
from masa.evaluation.model_probe import ModelProbe, probe_model
from masa.evaluation.savings import FACTOR, QUANTILE, THRESHOLDS, CorrectAt
from masa.report import write_probe
from masa.runs.jsonlines import plain

_LIMITS = {"paper": f"{FACTOR:g} x foretold", "calibrated": f"{QUANTILE:g} quantile"}
_GATES = {"paper": "paper's gate", "calibrated": f"gate {THRESHOLDS[0]:g}"}


def run(model: str, options: Options, *, as_json: bool) -> None:
    """Measure, write the folder and its page, and print the figures.

    Raises:
        UserError: on anything the user can mend.
    """
    if options.n < 2:
        raise UserError(f"--n {options.n}: a pass rate needs at least 2 solutions a problem")
    measuring = prepare("probe", model, options)
    folder = measuring.folder()
    policy = measuring.load()
    collected = measuring.collect(policy, folder, Console(stderr=True, highlight=False))
    answers = [one for _, found in collected for one in found]
    graders = [data.grade for data, (_, found) in zip(measuring.sets, collected, strict=True) for _ in found]

    def decode(ids: tuple[int, ...]) -> str:
        return policy.decode_ids([ids])[0]

    probe = probe_model(
        answers,
        min_length=measuring.min_length,
        max_tokens=measuring.requests.max_tokens,
        correct_at=_correct_at(answers, graders, decode),
        seed=measuring.requests.seed,
    )
    result = {"model": model, "folder": str(folder.path), "settings": measuring.settings(), **plain(probe)}
    folder.write_result(result)
    page = write_probe(result, folder.report_path)
    if as_json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
        return
    _show(measuring, probe)
    sys.stdout.write(f"\nevery answer and the page: {page}\n")


def _correct_at(answers: list[Answers], graders: list[Grader], decode: Callable[[tuple[int, ...]], str]) -> CorrectAt:
    def correct_at(problem: int, sample: int, limit: int) -> bool:
        text = decode(answers[problem].solutions[sample].token_ids[:limit])
        return graders[problem]([answers[problem].problem], [text])[0].correct

    return correct_at


def _show(measuring: Measuring, probe: ModelProbe) -> None:
    out = wide_console()
    worth = probe.savings
    out.print(
        f"{measuring.model.name}: {probe.problems:,} problems, {probe.solutions} solutions "
        f"({worth.solution_tokens:,} tokens) and {probe.predictions} predictions ({worth.meta_tokens:,} tokens) each",
        soft_wrap=True,
        markup=False,
    )
    out.print()
    out.print(_foresight(probe))
    out.print()
    out.print(_scores(probe.foresight), soft_wrap=True)
    for made in (_gates(probe), _cutoffs(probe)):
        out.print()
        out.print(made)
    out.print()
    Console(highlight=False).print(probe.advice, markup=False)


def _foresight(probe: ModelProbe) -> Table:
    seen = probe.foresight
    made = table(
        "Foretold and true (95 % intervals over problems)",
        *("", "mean,\ntrue", "mean,\nforetold", "Spearman", "Pearson", "slope of\nfitted line"),
    )
    rate_line, length_line = seen.pass_rate_line, seen.length_line
    made.add_row(
        "pass rate",
        percent(seen.pass_rate),
        percent(seen.foretold_pass_rate),
        _correlation(seen.pass_rate_spearman),
        _correlation(seen.pass_rate_pearson),
        "-" if rate_line is None else f"{rate_line.slope:.2f}",
    )
    made.add_row(
        "length of right ones",
        _mean([point.length for point in seen.points]),
        _mean([point.foretold_length for point in seen.points]),
        _correlation(seen.length_spearman),
        _correlation(seen.length_pearson),
        "-" if length_line is None else f"{length_line.slope:.2f}",
    )
    return made


def _scores(seen: Foresight) -> str:
    return (
        f"Valid predictions {percent(seen.valid_share)}. Brier score {_number(seen.brier)} (always the mean: "
        f"{_number(seen.brier_constant)}, perfect: {_number(seen.brier_perfect)}), calibration error "
        f"{_number(seen.ece)}. Foretold over true length, median {_number(seen.length_ratio, 2)}."
    )


def _gates(probe: ModelProbe) -> Table:
    worth = probe.savings
    made = table(
        "Gates on self-prediction (calibrated: cross-validated over problems)",
        *("gate", "skipped", "precision", "recall", "F1", "live\nlost", "tokens\nsaved", "net of\npredictions"),
    )
    base = worth.gates["paper"].base_rate
    perfect = percent(worth.perfect_share)
    made.add_row("perfect", share_text(base), "100 %", "100 %", "1.00", "0 %", perfect, "-")
    for name, gate in worth.gates.items():
        made.add_row(
            name,
            share_text(gate.skipped),
            share_text(gate.precision),
            share_text(gate.recall),
            "-" if gate.f1 is None else f"{gate.f1:.2f}",
            share_text(gate.lost),
            percent(gate.saved_share),
            percent(gate.net_share),
        )
    return made


def _cutoffs(probe: ModelProbe) -> Table:
    worth = probe.savings
    made = table(
        "Token limits from the foretold length",
        *("limit", "problems\nlimited", "right\nones cut", "wrong\nones cut", "tokens\nsaved", "net of\npredictions"),
    )
    for name, cutoff in worth.cutoffs.items():
        shares = [share_text(share) for share in (cutoff.limited, cutoff.false_cut, cutoff.wrong_cut)]
        made.add_row(_LIMITS[name], *shares, percent(cutoff.saved_share), percent(cutoff.net_share))
    for name, both in worth.together.items():
        saved = (percent(both.saved_share), percent(both.net_share))
        made.add_row(f"{_LIMITS[name]}, with {_GATES[name]}", "", "", "", *saved)
    return made


def _correlation(found: Correlation) -> str:
    if found.value is None:
        return "-"
    interval = "" if found.low is None or found.high is None else f" ({found.low:.2f}..{found.high:.2f})"
    return f"{found.value:.2f}{interval}"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.1f}" if known else "-"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
