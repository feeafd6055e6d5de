"""A real browser: opens a page at any width, in light or dark, lets a script drive it and hears of every error."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

_DRIVER = """<script>
const look = () => new Promise((done) => {
  addEventListener("message", done, { once: true });
  parent.postMessage("look", "*");
});
const until = async (what) => {
  for (let i = 0; i < 3000; i++) { const value = what(); if (value) return value; await look(); await pause(10); }
  throw new Error(`never: ${what}`);
};
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
(async () => {
  let result;
  try { result = await (async () => { SCRIPT })(); } catch (error) { result = { failed: String(error) }; }
  parent.postMessage(JSON.stringify(result), "*");
})();
</script>"""
# Chromium's own window is never narrower than 500 pixels; a frame in it may be.
_HOST = """<!doctype html><html style="color-scheme: light dark"><body style="margin: 0">
<iframe src="NAME" style="border: 0; width: WIDTHpx; height: 900px"></iframe>
<script>
// The browser's clock jumps ahead while threads of its own are unpacking, but not while a file is read.
let looks = 0;
const look = (back) => {
  const file = document.createElement("script");
  file.onload = file.onerror = () => { file.remove(); back.postMessage("", "*"); };
  file.src = `nothing.js?${looks++}`;
  document.body.append(file);
};
addEventListener("message", ({ data, source }) => {
  if (data === "look") look(source); else document.documentElement.setAttribute("data-result", data);
});
</script>
</body></html>"""


def dom(page: Path, *, home: Path, options: tuple[str, ...] = (), milliseconds: int = 4000) -> tuple[str, list[str]]:
    """The page's elements after its scripts have run, and what it wrote to the console."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", *options]
    command += [f"--virtual-time-budget={milliseconds}", "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=240, check=True)
    console = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if ":CONSOLE" in line]
    return done.stdout.decode("utf-8"), console


def drive(page: Path, script: str, *, home: Path, width: int = 1200, is_dark: bool = False) -> tuple[Any, list[str]]:
    """What a script finds in the page (the value that its last line returns), and the console's lines.

    Args:
        page: as written; a copy of it is driven.
        script: body of an async function; `until(condition)` and `pause(milliseconds)` are there.
        home: folder for the browser.
        width: of the page, in pixels.
        is_dark: whether the reader prefers dark pages.
    """
    driven, host = page.with_name("driven.html"), page.with_name("host.html")
    whole = page.read_text(encoding="utf-8")
    driven.write_text(whole.replace("</body>", f"{_DRIVER.replace('SCRIPT', script)}</body>"), encoding="utf-8")
    page.with_name("nothing.js").write_text("")
    host.write_text(_HOST.replace("NAME", driven.name).replace("WIDTH", str(width)))
    options = (f"--window-size={max(width, 500)},900", *(["--force-dark-mode"] if is_dark else []))
    found, console = dom(host, home=home, options=options, milliseconds=40_000)
    match = re.search(r'data-result="([^"]*)"', found)
    assert match, f"the script did not end: {console}"
    return json.loads(html.unescape(match[1])), console
