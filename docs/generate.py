"""Writes the pages that are made from the code: settings.md and commands.md.

    python docs/generate.py          # or `make docs-pages`

tests/docs/test_generated_pages.py fails when a page is stale.
"""

from __future__ import annotations

import dataclasses
import html
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer.cli import get_docs_for_click
from typer.main import get_command

from masa.cli.app import app
from masa.cli.data_source import DataSource
from masa.cli.job import OWN_KEYS, HeldOutSettings
from masa.training.config import MASAConfig
from masa.training.contradictions import CHOICES, LEAST, POSITIVE, SHARES
from masa.training.presets import COMMON, PRESETS

HERE = Path(__file__).parent
_NOTE = "<!-- Made by docs/generate.py from the code: change it there. -->\n"
_HEADING = re.compile(r"    # (\w.*)")
_FIELD = re.compile(r"    (\w+): ")

_JOB_KEYS = {
    "model": ("`bundled`", "Folder, Hub id, or a name such as `bundled` or `smollm2-135m`."),
    "data": ("required", "A file, a Hub id, `reasoning_gym:NAME`, `bundled`; or a mapping, or a list of them (below)."),
    "heldout": ("none", "What is measured before and after training: data as above, or a mapping (below)."),
    "prompt": ("`{problem}`", "Template of the solution prompt."),
    "system": ("none", "System message of every prompt."),
    "reward": ("correctness", "A reward function of yours, `module:function`."),
    "lora": ("none", "Settings of peft's `LoraConfig`; without them all weights are trained."),
    "output": ("`runs/PRESET`", "The run folder."),
    "max_tokens": ("none", "Training ends after the step that reaches this many generated tokens."),
    "max_minutes": ("none", "The same in minutes."),
}
_SOURCE_KEYS = {
    "source": "A file, a Hub id, `reasoning_gym:NAME` or `bundled`.",
    "split": "Of a Hub id, a saved folder or `bundled`.",
    "config": "Name of a Hub data set's config, settings of a reasoning-gym task, or the `tasks` of `bundled`.",
    "size": "Problems to make, of procedural tasks.",
    "seed": "Of procedural tasks.",
    "problem_column": "Column with the problem's text; dotted names reach into mappings.",
    "answer_column": "Column with the answer.",
    "kind": "Which grader decides: `math`, `choice`, `literal` or `code`; default: the row's own column, else `math`.",
    "limit": "The first so many problems.",
    "on_error": "`raise`, or `skip`: leave faulty rows out and say so.",
}
_HELDOUT_KEYS = {
    "data": "Problems that are never trained on.",
    "solutions": "Answers a problem.",
    "predictions": "Predictions a problem.",
    "every": "Also measure every so many steps; 0: before and after only.",
    "transfer": "Problems of other tasks: measured beside, no part of the accuracy.",
}


def settings_page() -> str:
    """Every setting that `MASAConfig` declares itself, the config file's other keys, and the presets."""
    own = set(inspect.get_annotations(MASAConfig))
    by_name = {f.name: f for f in dataclasses.fields(MASAConfig)}
    parts = [
        "# Settings\n",
        _NOTE,
        "A YAML file, `--set key=value` and `MASAConfig(key=value)` take the same settings. Unknown keys are refused "
        "with the nearest known one, and contradictions are refused with the remedy. All of TRL's `GRPOConfig` and of "
        "transformers' `TrainingArguments` applies besides (`learning_rate`, `num_generations`, "
        "`max_completion_length`, `temperature`, ...); those that a preset changes are in the last table.\n",
        "`from the preset` stands for a value that the preset decides unless you do.\n",
    ]
    seen: set[str] = set()
    for title, names in _sections():
        parts.append(f"## {title}\n")
        rows = []
        for name in names:
            if name in own:
                rows.append((f"`{name}`", _default(by_name[name]), _allowed(name), _text(by_name[name])))
                seen.add(name)
        parts.append(_table(("setting", "default", "allowed", "meaning"), rows))
    if missing := own - seen:
        raise SystemExit(f"settings without a section in MASAConfig's source: {sorted(missing)}")
    if unlike := set(OWN_KEYS) ^ _JOB_KEYS.keys():
        raise SystemExit(f"keys of a config file have changed, describe them in docs/generate.py: {sorted(unlike)}")
    parts += [
        "## Keys of a config file beside these\n",
        _table(("key", "default", "meaning"), [(f"`{k}`", d, m) for k, (d, m) in _JOB_KEYS.items()]),
        "A source under `data`, as a mapping:\n",
        _table(("key", "default", "meaning"), _dataclass_rows(DataSource, _SOURCE_KEYS)),
        "`heldout`, as a mapping:\n",
        _table(("key", "default", "meaning"), _dataclass_rows(HeldOutSettings, _HELDOUT_KEYS)),
        "`masa compare` takes `arms` (a name to settings of its own), `seeds` and `baseline` besides.\n",
        "## What the presets decide\n",
        "An empty cell is the first column's value. `masa*` are the first version of the paper (arXiv 2510.03259), "
        "`mapr*` its second.\n",
        _presets_table(),
    ]
    return "\n".join(parts)


def commands_page() -> str:
    """Every command with its arguments and options, by typer's own writer."""
    command = get_command(app)
    context = command.make_context("masa", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="masa")
    lines = html.unescape(text).replace("# `masa`", "# Commands", 1).splitlines()
    return "\n".join([lines[0], "", _NOTE, *lines[1:]]).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "commands.md": commands_page}


def _sections() -> Iterator[tuple[str, list[str]]]:
    """Headings and field names of the class body, as its source orders them."""
    title, names = "The recipe", list[str]()
    for line in inspect.getsource(MASAConfig).splitlines():
        if heading := _HEADING.fullmatch(line):
            yield title, names
            title, names = heading[1], []
        elif line.startswith("    def "):
            break
        elif entry := _FIELD.match(line):
            names.append(entry[1])
    yield title, names


def _text(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata["help"])


def _default(field: dataclasses.Field[Any]) -> str:
    if field.name in COMMON:
        return "from the preset"
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return "-" if value is None else _value(value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _allowed(name: str) -> str:
    if name in CHOICES:
        return ", ".join(f"`{choice}`" for choice in CHOICES[name] if choice is not None)
    if name in SHARES:
        return "0 to 1"
    if name in LEAST:
        return f"{LEAST[name]:g} or more"
    return "above 0" if name in POSITIVE else ""


def _dataclass_rows(kind: Any, meanings: dict[str, str]) -> list[tuple[str, ...]]:
    fields = [field for field in dataclasses.fields(kind) if field.name != "where"]
    if unlike := {field.name for field in fields} ^ meanings.keys():
        raise SystemExit(f"{kind.__name__}: these keys have changed, describe them in docs/generate.py: {unlike}")
    rows = []
    for field in fields:
        is_required = field.default is field.default_factory is dataclasses.MISSING
        default = "required" if is_required else "-" if field.default in (None, dataclasses.MISSING) else None
        rows.append((f"`{field.name}`", default or _value(field.default), meanings[field.name]))
    return rows


def _presets_table() -> str:
    rows = [
        (f"`{name}`", *(_value(p[name]) if i == 0 or p[name] != COMMON[name] else "" for i, p in enumerate(columns)))
        for columns in [list(PRESETS.values())]
        for name in COMMON
    ]
    return _table(("setting", *(f"`{name}`" for name in PRESETS)), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main() -> None:
    """Write all pages."""
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
