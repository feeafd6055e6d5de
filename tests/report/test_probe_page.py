"""The page of a probe, from a plain value alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from masa.report import write_probe
from masa.report.probe import render_probe


def share(value: float | None) -> dict[str, Any]:
    return {"share": value, "low": value and value / 2, "high": value, "of": 8}


def correlation(value: float | None) -> dict[str, Any]:
    return {"value": value, "low": value and value - 0.1, "high": value and value + 0.1, "problems": 8}


def probe(**changed: Any) -> dict[str, Any]:
    gate = {key: share(0.5) for key in ("skipped", "precision", "recall", "base_rate", "lost")}
    cutoff = {key: share(0.25) for key in ("limited", "false_cut", "wrong_cut")}
    saved = {"saved": 10, "saved_share": 0.4, "net_share": -0.1}
    seen: dict[str, Any] = {
        "points": [
            {"foretold_pass_rate": 0.5, "pass_rate": 0.25, "foretold_length": 20.0, "length": 30.0},
            {"foretold_pass_rate": 0.5, "pass_rate": 0.25, "foretold_length": 40.0, "length": None},
            {"foretold_pass_rate": None, "pass_rate": 0.75, "foretold_length": None, "length": 50.0},
        ],
        "pass_rate_line": {"intercept": 0.1, "slope": 0.62, "least": 0.0, "most": 1.0},
        "length_line": None,
        "reliability": [{"low": 0.4, "high": 0.5, "count": 3, "mean_predicted": 0.5, "mean_true": 0.25}],
        "valid_share": 0.9,
        "pass_rate": 0.4,
        "foretold_pass_rate": 0.5,
        "brier": 0.2,
        "brier_constant": 0.24,
        "brier_perfect": 0.1,
        "ece": 0.05,
        "pass_rate_spearman": correlation(0.5),
        "pass_rate_pearson": correlation(None),
        "length_spearman": correlation(0.25),
        "length_pearson": correlation(0.25),
        "length_ratio": 1.2,
    }
    found: dict[str, Any] = {
        "model": "<b>model</b>",
        "settings": {"data": {"sums & more": {"problems": 3}}, "n": 4},
        "problems": 3,
        "solutions": 4,
        "predictions": 2,
        "foresight": seen | changed,
        "savings": {
            "solution_tokens": 100,
            "meta_tokens": 50,
            "perfect_share": 0.6,
            "gates": {"paper": gate | saved | {"f1": 0.5}},
            "cutoffs": {"paper": cutoff | saved},
            "together": {"paper": saved},
        },
        "advice": "In words.",
    }
    return found


def charts(page: str) -> list[dict[str, Any]]:
    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    specs: list[dict[str, Any]] = json.loads(data[1])
    return specs


def test_the_page_holds_figure_1_and_the_tables(tmp_path: Path) -> None:
    page = write_probe(probe(), tmp_path / "report.html").read_text()
    assert "&lt;b&gt;model&lt;/b&gt;" in page
    assert "<b>model</b>" not in page
    rates, lengths, reliability, tokens = charts(page)
    assert rates["traces"][1]["text"] == ["2 problems"]  # two points in one place
    assert rates["traces"][2]["y"] == [0.1, 0.72]  # the fitted line at 0 and 1
    assert lengths["traces"][1]["x"] == [20.0]
    assert len(lengths["traces"]) == 2  # no line
    assert reliability["traces"][1]["y"] == [0.25]
    assert [trace["x"] for trace in tokens["traces"]] == [[0.4] * 3, [-0.1] * 3]
    for words in ("0.50 (0.40..0.60), 8 problems", "50.0 % (25..50)", "-10.0 %", "sums &amp; more", "slope 0.62"):
        assert words in page


def test_a_model_without_valid_predictions_still_has_a_page() -> None:
    empty = {"points": [{"foretold_pass_rate": None, "pass_rate": 0.5, "foretold_length": None, "length": 3.0}]}
    none = dict.fromkeys(("brier", "ece", "length_ratio", "foretold_pass_rate", "pass_rate_line"))
    page = render_probe(probe(**empty, **none, reliability=[]))
    assert len(charts(page)) == 1
