"""verl finds the plug-in by the means and lines that docs/verl.md names."""

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="needs verl: make test-verl")

from hydra import compose, initialize_config_dir
from verl_rows import PLUGIN

from masa.integrations.verl.settings import Settings

DOCS = Path(__file__).parents[3] / "docs" / "verl.md"


def test_a_fresh_process_registers_it_on_import_of_verl():
    code = (
        "import verl\n"
        "from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls\n"
        "from verl.trainer.ppo.v1 import get_trainer_cls\n"
        "print(get_reward_manager_cls('masa').__name__, get_trainer_cls('masa').__name__)\n"
    )
    environment = {**os.environ, "VERL_USE_EXTERNAL_MODULES": "masa.integrations.verl"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.splitlines()[-1] == "MASARewardManager MASATrainerVerl"


def test_the_documented_lines_suit_verls_configuration():
    import verl

    block = re.search(r"main_ppo(.*?)```", DOCS.read_text(), re.DOTALL)[1]
    lines = [line.strip(" \\") for line in block.splitlines() if "=" in line and "#" not in line]
    assert set(PLUGIN) < set(lines)
    table = re.findall(r"^\| (`[a-z_`, ]+`) \|", DOCS.read_text(), re.MULTILINE)
    documented = {name for cell in table for name in re.findall(r"[a-z_]+", cell)}

    assert documented == {field.name for field in fields(Settings)}
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = compose("ppo_trainer", overrides=lines)
    assert Settings.from_config(config.data) == Settings(problem_key="extra_info.question")
    module = "masa.integrations.verl"
    assert module == config.ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES
