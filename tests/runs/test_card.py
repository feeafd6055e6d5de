"""The model card: the run's own figures, a head that YAML reads, nothing that a name or a setting could break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from masa.runs import Ledger, RunFolder
from masa.runs.card import CARD, model_card, write_card

EVALUATION: dict[str, Any] = {
    "problems": 200,
    "samples_per_problem": 4,
    "pass_at_1": 0.611,
    "pass_at_1_low": 0.55,
    "pass_at_1_high": 0.67,
    "pass_rate_spearman": 0.7789,
    "length_spearman": 0.42,
    "brier": 0.0781,
    "ece": 0.071,
    "valid_share": 0.99,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(
        tmp_path / "run",
        {
            "preset": "masa-efficient",
            "model": "owner/base-1B",
            "num_generations": 8,
            "num_meta_generations": 8,
            "gate": "self",
        },
        seeds={"seed": 0},
    )
    ledger = Ledger()
    ledger.add(steps=130, solution_tokens=400_000, meta_tokens=60_000, audit_tokens=9_000)
    ledger.add(saved_gate_tokens=70_000, saved_cutoff_tokens=5_000)
    folder.write_ledger(ledger.totals())
    folder.append_evaluation(EVALUATION | {"step": 0, "pass_at_1": 0.32, "pass_rate_spearman": 0.08})
    folder.append_evaluation(EVALUATION | {"step": 130})
    return folder


def head_of(card: str) -> dict[str, Any]:
    loaded = yaml.safe_load(card.split("---")[1])
    assert isinstance(loaded, dict)
    return loaded


def test_figures_before_and_after_and_the_ledger(run: RunFolder) -> None:
    card = model_card(run, name="my-model")
    rows = {line.split(" | ")[0].strip("| "): line for line in card.splitlines() if line.startswith("| ")}
    assert rows["pass@1"] == "| pass@1 | 32.0 % (55.0..67.0) | 61.1 % (55.0..67.0) |"
    assert rows["Spearman, foretold and true pass rate"].endswith("| 0.080 | 0.779 |")
    assert rows["Brier score of the foretold pass rate"].endswith("| 0.078 |")
    assert "On 200 held-out problems, 4 answers each" in card
    assert "469,000 tokens were generated in 130 steps" in card
    assert "net of the predictions 15,000 tokens." in card
    assert "# my-model" in card
    assert "eprint        = {2510.03259}" in card
    assert "- `num_generations`: 8" in card
    head = head_of(card)
    assert head["base_model"] == "owner/base-1B"
    assert {"masa", "meta-awareness", "trl"} <= set(head["tags"])


def test_a_run_that_learnt_no_foretelling_does_not_claim_it(run: RunFolder) -> None:
    assert "foretells its own pass rate" in model_card(run)
    config = run.read_config()
    run.config_path.write_text(yaml.safe_dump(config | {"num_meta_generations": 0, "gate": "none"}))
    card = model_card(run)
    assert "foretells its own pass rate" not in card
    assert "the policy helps to choose" not in card
    assert "meta-awareness" not in head_of(card)["tags"]


def test_a_loss_is_called_a_loss(run: RunFolder) -> None:
    ledger = Ledger()
    ledger.add(steps=1, solution_tokens=100, meta_tokens=50)
    run.write_ledger(ledger.totals())
    assert "net of the predictions -50 tokens (they cost more than was saved)." in model_card(run)


def test_without_evaluations_the_last_window_of_training_is_given_and_named_so(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"preset": "masa"})
    for step, spearman in ((1, 0.1), (2, 0.25)):
        folder.append_metrics(step, {"pass_rate": 0.5, "awareness/pass_rate_spearman": spearman, "phase": "parallel"})
    card = model_card(folder)
    assert "nothing was held out" in card
    assert "| Spearman, foretold and true pass rate | 0.250 |" in card
    assert "| pass@1 | 50.0 % |" in card
    assert "Brier" not in card


def test_an_empty_run_and_hostile_names_give_a_card_all_the_same(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"preset": "<script>|`x`", "model": "/a/path"})
    card = model_card(folder, name="a\n---\nb", tags=["x: [", "masa"])
    head = head_of(card)
    assert head["tags"].count("masa") == 1
    assert "x: [" in head["tags"]
    assert "base_model" not in head
    assert "<script>" not in card
    assert "# a --- b" in card


def test_it_is_written_beside_the_model(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = write_card(run, tmp_path / "model")
    assert path == tmp_path / "model" / CARD
    assert path.read_text(encoding="utf-8") == model_card(run)
