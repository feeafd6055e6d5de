"""The report's charts, section by section. A chart whose metrics were never written is left out."""

from __future__ import annotations

from masa.report.data import RunData
from masa.report.figures import Chart, held_out, line, percent_axis, phase_mark
from masa.report.special import by_task, ledger, lengths, pass_at_1_by_tokens, reliability, seconds


def learning(run: RunData) -> list[Chart]:
    """Is it learning?"""
    charts = []
    traces = line(run, "pass_rate", "training problems", "--blue") + held_out(run, "pass_at_1", "held-out pass@1")
    if traces:
        note = "Share of correct solution rollouts in each step, and pass@1 on held-out problems (95 % interval)."
        charts.append(Chart("Pass rate", note, traces, percent_axis() | phase_mark(run)))
    traces = line(run, "groups/live_share", "live, of all drawn", "--green")
    traces += line(run, "groups/zero_variance_share", "zero variance, of those rolled out", "--grey")
    if traces:
        note = "A group is live when its rewards differ; only live groups teach. Problems left out count as not live."
        charts.append(Chart("Live groups", note, traces, percent_axis() | phase_mark(run)))
    parts = [
        ("reward/solution", "solutions", "--blue"),
        ("reward/meta", "predictions", "--orange"),
        ("reward/difficulty", "… difficulty", "--red"),
        ("reward/length", "… length", "--purple"),
        ("reward/notion", "… notions", "--green"),
    ]
    traces = [trace for name, title, color in parts for trace in line(run, name, title, color)]
    if traces:
        note = "Mean reward of solution and of meta rollouts, and the three parts of the latter."
        charts.append(Chart("Rewards", note, traces, phase_mark(run)))
    charts += [chart for chart in (pass_at_1_by_tokens(run), by_task(run)) if chart]
    return charts


def awareness(run: RunData) -> list[Chart]:
    """Does it know what it can do?"""
    charts = []
    traces = line(run, "awareness/pass_rate_spearman", "pass rate", "--blue")
    traces += line(run, "awareness/length_spearman", "length", "--purple")
    traces += held_out(run, "awareness/pass_rate_spearman", "pass rate, held out", "--blue")
    traces += held_out(run, "awareness/length_spearman", "length, held out", "--purple")
    if traces:
        note = (
            "Spearman correlation between what was foretold and what came true, over problems. "
            "0 is no knowledge, 1 a perfect order."
        )
        charts.append(
            Chart("Foretold against true", note, traces, phase_mark(run) | {"yaxis": {"range": [-0.35, 1.02]}})
        )
    before, after = run.first_and_last_points
    where = "held-out problems" if run.points_are_held_out else "the last steps' problems"
    charts += [chart for chart in (reliability(before, after, where), lengths(after, where)) if chart]
    traces = line(run, "awareness/brier", "Brier score", "--red") + line(
        run, "awareness/ece", "calibration error", "--orange"
    )
    traces += line(run, "awareness/valid_share", "valid predictions (share)", "--grey")
    if traces:
        note = "Brier score and expected calibration error of the foretold pass rate (lower is better)."
        charts.append(Chart("Calibration", note, traces, phase_mark(run) | {"yaxis": {"rangemode": "tozero"}}))
    return charts


def spending(run: RunData) -> list[Chart]:
    """Gate, cutoff and ledger."""
    charts = []
    traces = line(run, "gate/share", "problems skipped", "--orange")
    traces += line(run, "gate/precision", "precision", "--green", is_smooth=False)
    traces += line(run, "gate/recall", "recall", "--blue", is_smooth=False)
    traces += line(run, "gate/base_rate", "base rate", "--grey", is_smooth=False, dash="dot")
    if traces:
        note = (
            "Share of problems that got no solution rollouts. Precision, from audits: how often a skipped group would "
            "have had zero variance; to be read against the base rate, which skipping at random would reach."
        )
        charts.append(Chart("Gate", note, traces, percent_axis() | phase_mark(run)))
    traces = line(run, "cutoff/share", "rollouts cut", "--orange")
    traces += line(run, "cutoff/false_cut_rate", "of correct ones, cut too soon", "--red", is_smooth=False)
    if traces:
        note = "Share of solution rollouts that met their foretold limit; false cuts are measured on exempt problems."
        charts.append(
            Chart("Cutoff", note, traces, phase_mark(run) | {"yaxis": {"tickformat": ".1%", "rangemode": "tozero"}})
        )
    charts += [chart for chart in (ledger(run), seconds(run)) if chart]
    return charts


def rollouts(run: RunData) -> list[Chart]:
    """Lengths and ends."""
    charts = []
    traces = line(run, "length/mean", "all", "--grey") + line(run, "length/mean_correct", "correct", "--green")
    traces += line(run, "length/mean_incorrect", "incorrect", "--red")
    traces += line(run, "length/mean_meta", "predictions", "--orange")
    if traces:
        note = "Mean tokens of a rollout, end-of-sequence included."
        charts.append(Chart("Lengths", note, traces, phase_mark(run) | {"yaxis": {"rangemode": "tozero"}}))
    parts = [
        ("finish/stop", "ended by itself", "green"),
        ("finish/length", "run's limit", "red"),
        ("finish/cutoff", "cutoff", "orange"),
    ]
    traces = [
        trace | {"stackgroup": "ends", "fillcolor": f"--{color}-soft", "line": {"color": f"--{color}", "width": 1}}
        for name, title, color in parts
        for trace in line(run, name, title, f"--{color}")[-1:]
    ]
    if traces:
        note = "Why solution rollouts ended."
        charts.append(Chart("Finish reasons", note, traces, percent_axis() | phase_mark(run)))
    return charts


def learner(run: RunData) -> list[Chart]:
    """The optimizer's view."""
    names = (
        ("loss", "Loss", "--blue"),
        ("grad_norm", "Gradient norm", "--purple"),
        ("entropy/live", "Entropy of live rows", "--green"),
        ("learning_rate", "Learning rate", "--grey"),
    )
    return [
        Chart(title, "", traces, phase_mark(run) | {"showlegend": False})
        for name, title, color in names
        if (traces := line(run, name, title, color))
    ]
