"""Every command that a page shows is tried: run where it is cheap, resolved where it trains, parsed in any case."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from pages import PAGES, ROOT, blocks
from shown import NOT_RUN, OTHERS, SHRUNK, Command, commands
from typer.main import get_command

from masa.cli import main
from masa.cli.app import app
from masa.grading.sandbox import isolation_fault

SHOWN = commands()
OURS = [command for command in SHOWN if command.text.startswith("masa ")]

TRAIN = (
    "train --set max_steps=2 --set parallel_steps=1 --set problems_per_step=2 --set num_generations=2 "
    "--set max_completion_length=64 --set heldout.data.size=4 --set heldout.solutions=2 --set heldout.predictions=2"
)
"""The default run, `masa train`, made short."""


def masa(arguments: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Exit code and all that was said, in this process: starting a new one takes seconds each."""
    said = io.StringIO()
    with (
        contextlib.chdir(cwd),
        patch.object(sys, "argv", ["masa", *arguments]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            main()
            code: Any = 0
        except SystemExit as exit:
            code = exit.code or 0
    return code, said.getvalue()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: the configs, a finished default run, files of one's own."""
    place = tmp_path_factory.mktemp("workplace")
    (place / "configs").symlink_to(ROOT / "configs")
    rows = [{"problem": f"{i} + {i + 1}", "answer": str(2 * i + 1)} for i in range(8)]
    (place / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "questions.txt").write_text("12 * 34\ngcd 84 126\n")
    log = [
        {"step": step, "problem": str(problem), "correct": int(sample < problem), "length": 10 + sample}
        for step in range(1, 4)
        for problem in range(4)
        for sample in range(4)
    ]
    (place / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    code, said = masa(TRAIN.split(), place)
    assert code == 0, said
    for copy in ("probe", "NAME"):
        shutil.copytree(place / "runs/default", place / "runs" / copy)
    return place


def parse(arguments: Sequence[str]) -> str:
    """Let the real command line take the arguments; gives the subcommand.

    Raises:
        Exception: typer's own, for what it does not know.
    """
    command: Any = get_command(app)
    names = []
    rest = list(arguments)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {' '.join([*names, name])}"
        command = command.commands[name]
        names.append(name)
    command.make_context(names[-1], rest)
    return names[0]


def check_words(command: Command) -> None:
    """Of what is no command to type: the commands and options that it names are there."""
    shown: Any = get_command(app)
    words = re.sub(r"[][]|\.\.\.", " ", command.text).split()[1:]
    options = {name for parameter in shown.params for name in parameter.opts}
    while hasattr(shown, "commands") and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in shown.commands, f"{command.page}: {command.text}: there is no command {name}"
        shown = shown.commands[name]
        options |= {name for parameter in shown.params for name in parameter.opts}
    wrong = {word for word in words if word.startswith("-")} - options
    assert not wrong, f"{command.page}: {command.text}: no option {wrong}"


@pytest.mark.parametrize("command", OURS, ids=lambda command: command.text)
def test_commands_of_masa(command: Command, workplace: Path) -> None:
    text, where = command.text, f"{command.page}: {command.text}"
    if text in NOT_RUN:
        parse(command.arguments)
        return
    if command.is_synopsis:
        check_words(command)
        return
    name = parse(command.arguments)
    if name in ("train", "compare"):
        # Nothing is trained, but the config, the preset and every setting go through the real loader.
        added = [] if "--dry-run" in command.arguments else ["--dry-run"]
    else:
        assert name in SHRUNK, f"{where}: say in tests/docs/shown.py how it is run, or why not"
        added = shlex.split(SHRUNK[name])
        if name == "probe" and "--rollouts" in command.arguments:
            added = []
    code, said = masa([*command.arguments, *added], workplace)
    assert code == 0, f"{where}: {said}"


def test_data_of_ones_own_trains(workplace: Path) -> None:
    """A dry run reads no data, so the quick start's own file is trained on for a step."""
    shown = "masa train --data problems.jsonl --output runs/own"
    assert Command(shown) in SHOWN
    short = "--set max_steps=1 --set problems_per_step=2 --set num_generations=2 --set max_completion_length=32"
    code, said = masa([*shlex.split(shown)[1:], *short.split()], workplace)
    assert code == 0, said
    assert (workplace / "runs/own/report.html").exists()


def test_other_programs() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for command in SHOWN:
        words = command.text.split()
        if words[0] == "make":
            assert words[1] in targets, f"{command.page}: no target {words[1]}"
        elif words[0] != "masa":
            assert command.text in OTHERS, f"{command.page} shows `{command.text}`: enter it in shown.py"
        for named in re.findall(r"\.\[(\w+)\]", command.text):
            assert named in extras
        for path in re.findall(r"(?:configs|benchmarks)/[\w./-]+", command.text):
            assert (ROOT / path).exists(), f"{command.page}: {path}"


def test_the_table_of_exceptions_has_no_entry_that_no_page_shows() -> None:
    shown = {command.text for command in SHOWN}
    assert sorted(set(NOT_RUN) - shown) == []
    assert sorted(set(OTHERS) - shown) == []


def test_a_mistake_in_a_command_is_found_out(workplace: Path) -> None:
    with pytest.raises(AssertionError, match="no command"):
        parse(["trian"])
    with pytest.raises(AssertionError, match="no option"):
        test_commands_of_masa(Command("masa report RUN --colour"), workplace)
    with pytest.raises(AssertionError, match="lerning_rate"):
        test_commands_of_masa(Command("masa train --set lerning_rate=1"), workplace)
    with pytest.raises(AssertionError, match="no command"):
        test_commands_of_masa(Command("masa trian", is_mention=True), workplace)
    with pytest.raises(Exception, match="No such option"):
        test_commands_of_masa(Command("masa report runs/default --colour"), workplace)


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]
FRAGMENTS = (
    "from trl import GRPOConfig, GRPOTrainer               from masa",
    "trainer.push_to_hub()",
    "from openai import OpenAI",
)
"""Blocks that are no program: two scripts side by side, a line of one; and one that needs a server."""


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.where}: {block.text[:30]!r}")
def test_python_blocks_run(block: Any) -> None:
    if block.text.startswith(FRAGMENTS):
        return
    if '"code")' in block.text and isolation_fault() is not None:
        pytest.skip("grading of code needs bubblewrap")
    exec(compile(block.text, block.where, "exec"), {"__name__": "shown"})


def test_yaml_blocks_are_settings_that_compare_takes(workplace: Path) -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]
    assert found
    default = (ROOT / "src/masa/cli/default.yaml").read_text(encoding="utf-8")
    for block in found:
        (workplace / "arms.yaml").write_text(yaml.safe_dump(yaml.safe_load(default) | yaml.safe_load(block.text)))
        code, said = masa(["compare", "arms.yaml", "--dry-run"], workplace)
        assert code == 0, f"{block.where}: {said}"
