"""The pages in a real browser: what a model or a file wrote is shown as text, and nothing of it runs."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import yaml
from chromium import dom, needs_browser
from fake_run import make_run
from test_comparison_page import arm, comparison, spending
from test_probe_page import probe

from masa.report import write_comparison, write_probe, write_report

pytestmark = needs_browser

RUN = "document.documentElement.setAttribute('data-ran',1)"
ATTACKS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</pre></table></title></style></textarea>--><script>{RUN}</script>",
    f'<img src="data:," onerror="{RUN}">',
    f"<svg/onload={RUN}>",
    f'"><body onload="{RUN}"><details open ontoggle="{RUN}">',
    f"' autofocus onfocus='{RUN}",
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    f'<a id=victim href="javascript:{RUN}">a link</a>',
    f'<object data="data:text/html,<script>parent.{RUN}</script>"></object>',
    f'<meta http-equiv="refresh" content="0;url=javascript:{RUN}">',
    f'<style>@import "javascript:{RUN}"; main {{ display: none }}</style>',
    f"{{{{constructor.constructor('{RUN}')()}}}} ${{{RUN}}} <%= {RUN} %> %{{text}} {{title}}",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e &lt;script&gt;{RUN}&lt;/script&gt; <!--<script>",
    "\u202ethgir ot tfel\u2066 \u200f\u061c\ufeff",
)
ATTACK = "\n".join(ATTACKS)
MARKUP = ("<svg/onload", "<a id=victim", "<iframe", "<object", "<img src=", "<meta http-equiv=\"refresh\"")  # fmt: skip


def assert_shown_as_text(page: Path, home: Path, places: int) -> None:
    found, console = dom(page, home=home)
    assert console == []
    assert "data-ran" not in found[: found.index("<head")], "a script of theirs ran"
    body = found[found.index("<body") : found.index('<script type="application/json"')]
    assert not re.search(r"<(script|iframe|object|img|meta|style|svg/)", body)
    assert not re.search(r"<[^>]*\s(on\w+|href|srcdoc)\s*=", re.sub(r"<svg.*?</svg>", "", body, flags=re.DOTALL))
    text = html.unescape(re.sub(r"<[^>]*>", "", body))
    for attack in ATTACKS:
        assert text.count(attack) >= places, attack
    assert 'class="main-svg"' in body, "the charts were not drawn: the page's own script did not run"


def test_such_markup_would_run(tmp_path: Path) -> None:
    """The other tests would notice: unescaped, the same texts do run."""
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><head></head><body>{ATTACKS[0]}</body></html>")
    assert 'data-ran="1"' in dom(page, home=tmp_path / "home")[0]


def test_a_run(tmp_path: Path) -> None:
    name = "'><svg onload=x&amp;{{1}}\u202e"
    folder = make_run(tmp_path / name)
    common: dict[str, Any] = {"step": 200, "problem": 1, "task": ATTACK, "problem_text": ATTACK}
    solution = {"role": "solution", "text": ATTACK, "correct": True, "finish_reason": ATTACK, "length": 3}
    said = {"pass_rate": 0.5, "length": 3, "notions": [ATTACK]}
    rows = [common | solution, {**common, "role": "meta", "text": ATTACK, "prediction": said}]
    folder.write_rollouts(200, rows)
    for step in (0, 200):
        cells = {f"{attack}/{level}": 0.5 for attack in ATTACKS for level in (1, 2)} | {ATTACK: 0.5}
        folder.append_evaluation({"step": step, "pass_at_1": 0.5, "by_task": cells})
    folder.config_path.write_text(yaml.safe_dump({ATTACK: 1, "note": {ATTACK: ATTACK}}))
    page = write_report(folder.path, tmp_path / "page.html")
    assert_shown_as_text(page, tmp_path / "home", places=4)
    assert f"<h1>{html.escape(name, quote=False)}</h1>" in dom(page, home=tmp_path / "home")[0]


def test_a_comparison(tmp_path: Path) -> None:
    arms = [arm(ATTACK, **spending()), *(arm(attack, **spending()) for attack in ATTACKS)]
    settings = {"common": {ATTACK: ATTACK}, "differing": {ATTACK: {ATTACK: ATTACK, "new": None}}}
    value = comparison(*arms, baseline=ATTACK, notes=[ATTACK], settings=settings, machines=[{ATTACK: ATTACK}])
    page = write_comparison(value, tmp_path / "page.html")
    assert_shown_as_text(page, tmp_path / "home", places=4)


def test_a_probe(tmp_path: Path) -> None:
    value = probe()
    value |= {"model": ATTACK, "advice": ATTACK, "settings": {"data": {ATTACK: {"problems": 3}}, "n": ATTACK}}
    for kind in ("gates", "cutoffs", "together"):
        rule = value["savings"][kind].pop("paper")
        value["savings"][kind] |= dict.fromkeys(ATTACKS, rule)
    page = write_probe(value, tmp_path / "page.html")
    assert_shown_as_text(page, tmp_path / "home", places=3)
