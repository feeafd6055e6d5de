"""What the pages name is there: modules, functions, settings, files."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, PAGES, ROOT, inline_code

from masa.training.config import MASAConfig
from masa.training.contradictions import CHOICES

_DOTTED = re.compile(r"masa(\.\w+)+")
_SETTING = re.compile(r"([a-z]+(?:_[a-z]+)+): ([\w-]+)")
_FILE = re.compile(r"(?:configs|docs|examples|tests|benchmarks|src)/[\w./-]*\w")


def find(name: str) -> Any:
    """The object behind a dotted name: the longest importable module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_dotted_names_can_be_imported(page: Path) -> None:
    for name in sorted(code for code in inline_code(page) if _DOTTED.fullmatch(code)):
        assert find(name) is not None, f"{page.name} names {name}"


def test_a_name_that_is_not_there_is_found_out() -> None:
    with pytest.raises(AttributeError):
        find("masa.awareness.rewards.no_such_reward")
    with pytest.raises(ModuleNotFoundError):
        find("nothing.at.all")


def test_the_method_page_names_every_module_of_the_method_that_holds_an_equation() -> None:
    """One name at least of each public module of masa.awareness; what only serves others is listed."""
    helpers = {"__init__", "audit_window", "json_objects"}
    named = {code for code in inline_code(DOCS / "method.md") if _DOTTED.fullmatch(code)}
    for module in sorted((ROOT / "src/masa/awareness").glob("*.py")):
        if module.stem not in helpers:
            assert any(name.startswith(f"masa.awareness.{module.stem}.") for name in named), module.stem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_have_the_values_that_pages_give_them(page: Path) -> None:
    known = {field.name for field in fields(MASAConfig)}
    for code in inline_code(page):
        if match := _SETTING.fullmatch(code):
            name, value = match.groups()
            assert name in known, f"{page.name} names a setting {name}"
            assert name not in CHOICES or value in CHOICES[name], f"{page.name} says {code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_pages_name_exist(page: Path) -> None:
    for name in sorted(code for code in inline_code(page) if _FILE.fullmatch(code)):
        assert (ROOT / name).exists(), f"{page.name} names {name}"
