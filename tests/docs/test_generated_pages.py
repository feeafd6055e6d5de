"""Pages and tables that say what the code says: made from it, or held against it."""

from __future__ import annotations

import runpy
import tomllib
from importlib import metadata
from typing import Any

import pytest
import yaml
from pages import DOCS, ROOT

GENERATE = runpy.run_path(str(DOCS / "generate.py"))


@pytest.mark.parametrize("name", list(GENERATE["PAGES"]))
def test_a_page_made_from_the_code_is_not_stale(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == GENERATE["PAGES"][name](), f"docs/{name} is stale: run `make docs-pages`"


def test_every_setting_and_every_preset_is_on_the_page() -> None:
    from masa.training.config import MASAConfig
    from masa.training.presets import PRESETS

    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    for name in [*MASAConfig.__annotations__, *PRESETS]:
        assert f"`{name}`" in page, name


def test_the_table_of_versions_is_what_the_tests_run_with_and_what_is_allowed() -> None:
    rows: dict[str, list[str]] = {}
    for line in (DOCS / "limits.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            rows.setdefault(cells[0], cells)
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints-cpu.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["peft"]]
    lowest = dict(entry.split(",")[0].split(">=") for entry in wanted)
    for name in ("torch", "transformers", "trl", "accelerate", "datasets", "peft"):
        _, tested, allowed, _ = rows[name]
        assert tested.split(",")[0] == pins[name], f"{name}: constraints-cpu.txt pins {pins[name]}"
        assert allowed.startswith(lowest[name]), f"{name}: pyproject.toml asks for {lowest[name]}"
    assert rows["trl"][1] == metadata.version("trl"), "the tests run with another TRL than the table says"
    assert project["requires-python"] == ">=" + rows["Python"][2].split()[0]


def test_the_citation_file_is_yaml_and_names_both_versions() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert [reference["year"] for reference in citation["references"]] == [2025, 2026]
    assert citation["license"] == "Apache-2.0"
    assert citation["version"] == metadata.version("masa-rl")
