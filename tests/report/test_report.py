"""The report: made from the folder alone, complete in one file, and safe against what a model wrote."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_run import EVIL, make_run

from masa.errors import UserError
from masa.report import write_report
from masa.report.data import RunData, smooth
from masa.report.page import render
from masa.report.summary import amount, duration, sentences, tiles
from masa.runs import RunFolder


class Page(html.parser.HTMLParser):
    """Elements, texts and what the page would load."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in_script else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def charts(self) -> list[dict[str, Any]]:
        return list(json.loads(self.scripts[0]))


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture(scope="module")
def page(run_path: Path) -> Page:
    path = write_report(run_path)
    assert path == run_path / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_summary_says_what_happened(page: Page) -> None:
    assert "120 steps with preset masa-efficient on tiny" in page.text
    assert "Held-out pass@1 rose from 31.0 % (27.0 to 35.0) to 62.8 % (58.8 to 66.8), +31.8 points" in page.text
    assert "(240 problems, 4 samples each)" in page.text
    assert "0.02 to 0.57 for pass rate, \u22120.05 to 0.50 for length" in page.text
    # 80 predictive steps at 3,000 and 700 tokens saved; 120 steps of predictions at 1,800.
    assert "saved an estimated 240 k and 56 k tokens; predictions cost 216 k: a net saving of 80 k" in page.text


def test_every_chart_is_there(page: Page) -> None:
    titles = (
        "Pass rate, Live groups, Rewards, Pass@1 by tokens spent, Tasks and levels, Foretold against true, "
        "Reliability, Length, Calibration, Gate, Cutoff, Ledger, Wall time, Lengths, Finish reasons, Loss, Entropy"
    )
    for title in titles.split(", "):
        assert f" {title} " in page.text, title
    places = [attrs["id"] for tag, attrs in page.elements if tag == "div" and attrs.get("class") == "chart"]
    assert places == [f"chart-{index}" for index in range(len(page.charts))]
    assert all(chart["traces"] for chart in page.charts)


def test_loads_nothing_from_the_network(page: Page) -> None:
    assert not [attrs for _, attrs in page.elements if attrs.keys() & {"src", "href", "action"}]
    policies = [attrs["content"] for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert "default-src 'none'" in str(policies[0])
    assert "http" not in str(policies[0])


def test_what_a_model_wrote_is_text(page: Page) -> None:
    assert EVIL in " ".join(page.texts)  # readable as it was
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert len(page.scripts) == 5  # charts, plotly.js, packed rollouts and our own two, none from a rollout


def test_labels_are_text(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / EVIL.replace("/", ""), {})
    folder.append_metrics(1, {"pass_rate": 0.5})
    folder.append_evaluation({"step": 1, "pass_at_1": 0.5, "by_task": {EVIL: 0.5, "b": 1.0}})
    folder.write_ledger({"seconds": {EVIL: 1.0}, EVIL: 3})
    page = Page(render(RunData.load(folder.path)))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert len(page.scripts) == 3
    labels = [text for chart in page.charts for trace in chart["traces"] for text in (*trace["x"], *trace["y"])]
    assert not [text for text in labels if "<" in str(text)]


def test_colours_are_the_pages_own(run_path: Path, page: Page) -> None:
    source = (run_path / "report.html").read_text(encoding="utf-8")
    style = source[source.index("<style>") : source.index("</style>")]
    for name in set(re.findall(r'"(--[a-z-]+)"', page.scripts[0])):
        assert style.count(f"{name}:") == 2, name  # light and dark


def test_a_run_that_just_began(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"preset": "grpo"})
    assert write_report(folder.path).exists()
    folder.append_metrics(1, {"pass_rate": 0.25})
    folder.append_evaluation({"step": 0, "pass_at_1": 0.3})
    output = write_report(folder.path, tmp_path / "elsewhere.html")
    page = Page(output.read_text(encoding="utf-8"))
    assert "Held-out pass@1 is 30.0 % at step 0." in page.text
    assert "Gate" not in page.text
    assert "predictions cost" not in page.text


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "ledger.json", "config.yaml", "rollouts"])
def test_absent_files_are_no_error(run_path: Path, tmp_path: Path, name: str) -> None:
    for entry in run_path.iterdir():
        if entry.name == name or entry.name == "report.html":
            continue
        (tmp_path / entry.name).symlink_to(entry)
    page = Page(render(RunData.load(tmp_path)))
    assert page.charts


def test_strange_values_are_left_out(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, {})
    folder.append_metrics(1, {"pass_rate": "high", "groups/live_share": None, "loss": True})
    folder.append_evaluation({"step": None, "pass_at_1": "x", "points": [[1], "y", [None, 0.5, -1, 0]], "by_task": []})
    folder.append_evaluation({"step": 1, "points": 5, "by_task": {"a": None}})
    folder.write_rollouts(1, [{}, {"problem": [1], "role": "solution", "text": 5, "prediction": "?"}])
    assert "Samples" in render(RunData.load(tmp_path))


def test_without_evaluations_awareness_comes_from_rollouts(run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to(run_path / "config.yaml")
    (tmp_path / "rollouts").symlink_to(run_path / "rollouts")
    run = RunData.load(tmp_path)
    before, after = run.first_and_last_points
    assert before == []
    assert len(after) == 32  # two steps of 16 problems
    assert "the last steps&#x27; problems (n = 32)" in render(run)


def test_a_net_cost_is_said(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, {})
    folder.write_ledger(
        {"solution_tokens": 1000, "meta_tokens": 500, "saved_gate_tokens": 100.0, "net_saved_tokens": -400.0}
    )
    run = RunData.load(tmp_path)
    assert any("a net cost of 400" in sentence for sentence in sentences(run))
    assert [tile.value for tile in tiles(run)] == ["\u2212400"]


def test_no_run_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path)


def test_small_helpers() -> None:
    assert smooth([0.0, 3.0, 6.0], 3) == [1.5, 3.0, 4.5]
    assert [amount(value) for value in (12.4, 1234, 5_600_000)] == ["12", "1.23\u00a0k", "5.6\u00a0M"]
    assert [duration(value) for value in (42, 400, 3900)] == ["42 s", "7 min", "1 h 5 min"]
