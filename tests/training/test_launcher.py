"""A launcher that starts fewer processes than it was asked for is not believed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from masa.errors import UserError
from masa.training.launcher import refuse_lost_processes

SCRIPT = """
from masa.errors import UserError
from masa.training.launcher import refuse_lost_processes
try:
    refuse_lost_processes(1)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("option", [["--num_processes", "2"], ["--num_processes=2"], ["--num_processes", "1"]])
def test_accelerate_on_a_cpu_starts_one_process_whatever_it_is_asked_for(tmp_path: Path, option: list[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [Path(sys.executable).with_name("accelerate"), "launch", "--cpu", *option, script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("2 processes were asked for, 1 is here" in done.stdout) == ("2" in option[-1])


def test_processes_that_did_not_find_each_other_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UserError, match="8 processes were asked for, 1 is here"):
        refuse_lost_processes(1)
    refuse_lost_processes(8)
