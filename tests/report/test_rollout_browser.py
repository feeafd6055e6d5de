"""The browser of rollouts, in a real browser: filters, search, keys, narrow and dark pages, and a hundred thousand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chromium import drive, needs_browser
from fake_run import make_run

from masa.report import rollouts, write_report
from masa.report.rollouts import browser, pack
from masa.runs import RunFolder

pytestmark = needs_browser

OPEN = """
const section = document.getElementById("rollouts"), form = section.querySelector("form");
const counted = () => section.querySelector(".count").textContent;
const set = async (name, value) => {
  const field = form.elements[name];
  if (field.type === "checkbox") field.checked = value; else field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await pause(300);
  return counted();
};
const titles = () => [...section.querySelectorAll("article h3")].map((one) => one.textContent);
const marks = () => [...new Set([...section.querySelectorAll(".mark")].map((one) => one.textContent))];
section.scrollIntoView();
await until(() => counted().includes("groups"));
"""


def solution(step: int, problem: int, sample: int, **changed: Any) -> dict[str, Any]:
    row = {"step": step, "problem": problem, "problem_text": f"add {problem}", "task": f"sum/{problem % 2}"}
    row |= {"role": "solution", "sample": sample, "text": f"so it is {sample}", "length": 10 + sample}
    row |= {"finish_reason": "stop", "correct": sample == 0, "reward": float(sample == 0), "advantage": 0.5}
    return row | {"gated": False, "audited": False, "hinted": False} | changed


def meta(step: int, problem: int, rate: float, **changed: Any) -> dict[str, Any]:
    row = solution(step, problem, 0) | {"role": "meta", "text": "I shall see.", "reward": 0.25}
    del row["correct"]
    return row | {"prediction": {"pass_rate": rate, "length": 20, "notions": ["carry"]}} | changed


def write_run(path: Path) -> Path:
    """Two steps: problems 0 and 1 rolled out with two solutions each, problem 2 gated; one of each kind of oddity."""
    folder = RunFolder.create(path, {})
    folder.append_metrics(1, {"pass_rate": 0.5})
    for step in (1, 2):
        rows = [solution(step, problem, sample) for problem in (0, 1) for sample in (0, 1)]
        rows[0] |= {"hinted": True}
        rows[3] |= {"finish_reason": "cutoff", "text": f"never ENDS at {step}"}
        rows += [meta(step, 0, 0.5), meta(step, 1, 1.0), meta(step, 2, 0.0, gated=True)]
        folder.write_rollouts(step, rows)
    return write_report(folder.path, path.parent / "page.html")


def test_filters_and_search(tmp_path: Path) -> None:
    script = f"""{OPEN}
    const found = {{ all: counted(), titles: titles(), marks: marks() }};
    found.facts = section.querySelector("article p").textContent;
    found.correct = await set("kind", "correct"); found.correctMarks = marks();
    found.wrong = await set("kind", "wrong");
    found.meta = await set("kind", "meta"); found.metaMarks = marks();
    await set("kind", "");
    found.gated = await set("gated", true); found.gatedTitles = titles(); await set("gated", false);
    found.cut = await set("cut", true); found.cutText = section.querySelector("article pre:not(.question)").textContent;
    await set("cut", false);
    found.hinted = await set("hinted", true); await set("hinted", false);
    found.audited = await set("audited", true); await set("audited", false);
    found.search = await set("search", "never ends AT 2"); found.question = await set("search", "add 1");
    await set("search", "");
    found.task = await set("task", "sum/1"); await set("task", "");
    found.from = await set("from", "2"); await set("from", "");
    found.old = await set("order", "old"); found.oldTitles = titles();
    found.far = await set("order", "far"); found.farTitles = titles();
    return found;"""
    found, console = drive(write_run(tmp_path / "run"), script, home=tmp_path / "home")
    assert console == []
    assert "failed" not in found
    assert found["all"] == "14 rollouts in 6 groups"
    newest = [f"Step {step} · problem {n} · sum/{n % 2}" for step in (2, 1) for n in (0, 1, 2)]
    assert found["titles"] == newest
    assert found["facts"] == ("pass rate: foretold 50 %, true 50 % · 1 of 2 correct · length: foretold 20, true 10")
    assert (found["correct"], found["correctMarks"]) == ("4 rollouts in 4 groups", ["✓ correct"])
    assert found["wrong"] == "4 rollouts in 4 groups"
    assert (found["meta"], found["metaMarks"]) == ("6 rollouts in 6 groups", ["prediction"])
    assert (found["gated"], len(found["gatedTitles"])) == ("2 rollouts in 2 groups", 2)
    assert all("problem 2" in title for title in found["gatedTitles"])
    assert (found["cut"], found["cutText"]) == ("2 rollouts in 2 groups", "never ENDS at 2")
    assert (found["hinted"], found["audited"]) == ("2 rollouts in 2 groups", "0 rollouts in 0 groups")
    assert (found["search"], found["question"]) == ("1 rollouts in 1 groups", "6 rollouts in 2 groups")
    assert (found["task"], found["from"]) == ("6 rollouts in 2 groups", "7 rollouts in 3 groups")
    assert found["oldTitles"][0].startswith("Step 1")
    # Problem 1 was foretold 1 and came out at 1/2, problem 0 as foretold, and of problem 2 nothing is known.
    assert [title.split(" · ")[1] for title in found["farTitles"]] == [f"problem {n}" for n in (1, 1, 0, 0, 2, 2)]


def test_pages_by_keyboard(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")  # 2 steps of 16 problems, 8 solutions and a prediction each
    script = f"""{OPEN}
    const place = () => section.querySelector(".pages span").textContent;
    const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true }}));
    const found = {{ places: [place()], shown: section.querySelectorAll("article").length }};
    for (const key of ["p", "n", "n", "n", "n", "p"]) {{ press(key); found.places.push(place()); }}
    press("/"); found.focus = document.activeElement.name;
    press("n"); found.typed = place();
    document.activeElement.blur();
    section.querySelector(".more").focus(); section.querySelector(".more").click();
    found.rollouts = section.querySelector("article").querySelectorAll(".rollout").length;
    found.focused = document.activeElement.className;
    const reachable = [...section.querySelectorAll("button, input, select, article pre:not(.question)")];
    found.unreachable = reachable.filter((one) => one.tabIndex < 0).length;
    const fields = [...form.elements].filter((one) => one.tagName !== "FIELDSET");
    found.unnamed = fields.filter((one) => !one.labels.length && !one.ariaLabel).length;
    return found;"""
    found, console = drive(write_report(folder.path), script, home=tmp_path / "home")
    assert console == []
    assert found == {
        "places": ["1 of 4", "1 of 4", "2 of 4", "3 of 4", "4 of 4", "4 of 4", "3 of 4"],
        "shown": 10,
        "focus": "search",
        "typed": "3 of 4",  # a key in a field is text
        "rollouts": 9,
        "focused": "rollout",
        "unreachable": 0,
        "unnamed": 0,
    }


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_phone_s_width_in_light_and_dark(is_dark: bool, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    script = f"""{OPEN}
    document.querySelectorAll("details").forEach((one) => {{ one.open = true; }});
    await pause(300);
    const root = document.documentElement, css = getComputedStyle(document.body);
    const light = (colour) => colour.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765;
    const over = root.scrollWidth - root.clientWidth;
    return {{ width: innerWidth, over, paper: light(css.backgroundColor), ink: light(css.color) }};
    """
    page = write_report(folder.path)
    found, console = drive(page, script, home=tmp_path / "home", width=360, is_dark=is_dark)
    assert console == []
    assert (found["width"], found["over"]) == (360, 0)
    assert (found["paper"] < 0.2) == (found["ink"] > 0.8) == is_dark


def test_an_error_would_be_heard(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><html><head></head><body><script>nothing.there()</script></body></html>")
    found, console = drive(page, "return 1;", home=tmp_path / "home")
    assert found == 1
    assert "nothing is not defined" in console[0]


@pytest.mark.slow
def test_a_hundred_thousand_rollouts(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    folder.append_metrics(1, {"pass_rate": 0.5})
    for step in range(1, 101):
        text = " ".join(f"{step * n % 997} and {n} make {step + n}" for n in range(12))
        folder.write_rollouts(
            step,
            [solution(step, problem, sample, text=f"{text} {problem}") for problem in range(100) for sample in range(8)]
            + [meta(step, problem, 0.5) for problem in range(100) for _ in range(2)],
        )
    page = write_report(folder.path)
    script = f"""{OPEN}
    const all = counted(), some = await set("search", "make 111");
    return {{ all, some, elements: document.querySelectorAll("*").length }};"""
    found, console = drive(page, script, home=tmp_path / "home")
    assert console == []
    assert found["all"] == "100,000 rollouts in 10,000 groups"
    assert found["some"] == "800 rollouts in 100 groups"  # of the last step's solutions
    assert found["elements"] < 3000  # drawn on demand
    assert page.stat().st_size < 20 * 2**20


def test_what_would_make_the_file_too_large_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(step, [solution(step, 0, 0, text="x" * 10)]) for step in (3, 2, 1)]
    whole = pack(steps)
    assert (whole.rollouts, whole.first_step, whole.last_step, whole.is_whole) == (3, 1, 3, True)
    monkeypatch.setattr(rollouts, "MOST_CHARACTERS", 25)
    part = pack(steps)
    assert (part.rollouts, part.first_step, part.last_step, part.is_whole) == (2, 2, 3, False)
    assert "2 rollouts of steps 2 to 3 (earlier ones are in the run folder" in browser(part)
    assert browser(pack([])) == ""
