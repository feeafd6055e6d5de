"""The rollout benchmark runs, and all peers make the same lengths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rollout.py"


@pytest.mark.slow
def test_one_json_object_with_every_case_and_peer(tmp_path: Path) -> None:
    options = "--prompts 2 --group 4 --max-tokens 12 --repeats 1 --slots 4 --no-memory --json"
    peers = "generate,continuous,floor,own-floor"
    command = [sys.executable, str(SCRIPT), *options.split(), "--peers", peers, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    cases = {case["case"]: case for case in result["cases"]}
    assert set(cases) == {"equal", "ragged", "ragged-cutoff", "heavy-tail", "heavy-tail-cutoff"}
    assert set(cases["equal"]["ratio"]) == {"generate", "continuous batching", "floor", "own floor"}
    assert set(cases["ragged"]["ratio"]) == {"generate", "continuous batching"}
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert {row["prediction"] for row in result["scheduling"]} >= {"no prediction", "each length"}
    (written,) = tmp_path.iterdir()
    assert "| heavy-tail |" in written.read_text()
