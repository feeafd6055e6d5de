"""The page of a comparison in a real browser: whose band is shown, and a phone's width."""

from __future__ import annotations

from pathlib import Path

from chromium import drive, needs_browser
from test_comparison_page import arm, comparison, spending

from masa.report import write_comparison

pytestmark = needs_browser

CHART = """
const chart = await until(() => document.querySelector("#chart-0.js-plotly-plot"));
const spread = () => chart.data.filter((one) => one.meta?.spread && one.visible !== false);
const shown = () => [...new Set(spread().map((one) => one.meta.spread))];
"""


def many(count: int) -> list[dict[str, object]]:
    runs = [{"seed": seed, "pass_at_1": [0.3, 0.5], "tokens": [0, 4000]} for seed in range(3)]
    return [arm(name, runs=runs, **spending()) for name in ("grpo", *(f"arm {n}" for n in range(1, count)))]


def test_of_many_arms_the_band_of_one_at_a_time(tmp_path: Path) -> None:
    page = write_comparison(comparison(*many(11)), tmp_path / "page.html")
    script = f"""{CHART}
    const choice = document.querySelector(".choice select");
    const choose = (value) => {{ choice.value = value; choice.dispatchEvent(new Event("change")); }};
    const point = (arm) => chart.emit("plotly_hover", {{ points: [{{ data: {{ meta: {{ arm }} }} }}] }});
    const found = {{ arms: choice.options.length - 1, first: shown() }};
    choose("3"); found.chosen = shown();
    point("arm 7"); found.pointed = shown();
    found.traces = chart.data.filter((one) => one.meta?.spread === "arm 7").length;
    chart.emit("plotly_unhover", {{}}); found.left = shown();
    choose(""); found.none = shown();
    return found;"""
    found, console = drive(page, script, home=tmp_path / "home")
    assert console == []
    assert found == {
        "arms": 11,
        "first": [],
        "chosen": ["arm 2"],
        "pointed": ["arm 7"],
        "traces": 5,  # two edges of the band and three seeds
        "left": ["arm 2"],
        "none": [],
    }


def test_few_arms_show_all_bands_and_nothing_is_wider_than_a_phone(tmp_path: Path) -> None:
    page = write_comparison(comparison(*many(3)), tmp_path / "page.html")
    script = f"""{CHART}
    const root = document.documentElement;
    const bands = chart.data.filter((one) => one.fill === "tonexty" && one.visible !== false).length;
    const choices = document.querySelectorAll(".choice").length;
    return {{ bands, choices, over: root.scrollWidth - root.clientWidth }};"""
    found, console = drive(page, script, home=tmp_path / "home", width=360)
    assert console == []
    assert found == {"bands": 3, "choices": 0, "over": 0}
