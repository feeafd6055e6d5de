"""The scripts of examples/, run for one step each on the bundled model."""

from __future__ import annotations

import difflib
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT, blocks

from masa.awareness import PREDICTORS, Evidence, Observation
from masa.records import FinishReason, Outcome, Problem

EXAMPLES = ROOT / "examples"


def run(name: str, output: Path) -> tuple[dict[str, Any], Any]:
    """The script's names, and what its `main` gave."""
    script = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    return script, script["main"](output=str(output), max_steps=1)


def metrics(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    return found


def test_every_script_is_on_the_page_and_has_a_test() -> None:
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    own = Path(__file__).read_text(encoding="utf-8")
    for script in EXAMPLES.glob("*.py"):
        assert f"examples/{script.name}" in page, script.name
        assert f'"{script.stem}"' in own, script.name


def test_a_trl_script_is_changed_by_two_lines_and_trains(tmp_path: Path) -> None:
    before, after = ((EXAMPLES / f"trl_script{end}.py").read_text().splitlines() for end in ("", "_masa"))
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert [line[0] for line in changes] == ["-", "+", "+"]  # one changed, one added
    shown = {block.text.strip() for block in blocks(DOCS / "examples.md")}
    assert {line[2:].strip() for line in changes if line[0] == "+"} <= shown

    run("trl_script", tmp_path / "before")
    assert (tmp_path / "before" / "model.safetensors").exists()
    run("trl_script_masa", tmp_path / "after")
    assert metrics(tmp_path / "after")["groups/drawn"] == 32  # the best 8 of so many are rolled out, once known
    assert "`preset`: masa-plus" in (tmp_path / "after" / "README.md").read_text()


def test_a_reward_of_ones_own(tmp_path: Path) -> None:
    run("custom_reward", tmp_path)
    row = metrics(tmp_path)
    assert 0 < row["reward_function/brief"] < 1
    # Correctness is what `right` says, whatever brevity adds to the reward.
    assert row["pass_rate"] == pytest.approx(row["reward_function/right"])
    assert row["reward/solution"] == pytest.approx(row["pass_rate"] + 0.2 * row["reward_function/brief"])


def test_a_domain_with_its_own_meta_prompt(tmp_path: Path) -> None:
    script, trainer = run("custom_domain", tmp_path)
    row = metrics(tmp_path)
    assert row["awareness/valid_share"] > 0.5
    group = trainer.experience.group(0)
    asked = trainer.prompts.meta_prompt(group.problem, group.row)[-1]["content"]
    assert asked.startswith(script["META_PROMPT"].split("{")[0])
    assert asked.endswith(group.problem.text)


def test_a_predictor_in_thirty_lines(tmp_path: Path) -> None:
    known = dict(PREDICTORS)
    try:
        script, _ = run("own_predictor", tmp_path)
    finally:
        PREDICTORS.clear()
        PREDICTORS.update(known)
    kind = script["LastGroup"]
    source = (EXAMPLES / "own_predictor.py").read_text().split("class LastGroup")[1].split("\n\n\n")[0]
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 30
    assert metrics(tmp_path)["gate/share"] == 0  # the first step: nothing is known

    predictor = kind()
    evidence = Evidence(Problem(key=3, text="1 + 1", answer="2"))
    assert predictor.estimate(evidence).abstains
    solved = Outcome(("2",) * 8, (5,) * 8, (True,) * 8, (FinishReason.STOP,) * 8)
    predictor.observe(1, [Observation(evidence, solved, is_zero_variance=True)])
    again = kind()
    again.load_state_dict(json.loads(json.dumps(predictor.state_dict())))
    belief = again.estimate(evidence).beta
    assert belief is not None
    assert belief.mean == pytest.approx(8.5 / 9)
    assert belief.zero_variance(8) > 0.7  # so the example's gate skips it
