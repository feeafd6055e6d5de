"""What stands beside a saved model: a card with the figures of the run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from masa.training.trainer import MASATrainer


@pytest.mark.usefixtures("a_random_model_foretells")
def test_a_saved_model_and_a_push_carry_the_runs_figures(
    make_trainer: Callable[..., MASATrainer], tmp_path: Path
) -> None:
    trainer = make_trainer(preset="masa", max_steps=2, save_strategy="steps", save_steps=1)
    trainer.create_model_card("before")
    assert "Model Card for before" in (tmp_path / "run" / "README.md").read_text()  # TRL's: there is no run yet
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    assert (tmp_path / "run" / "checkpoint-2").is_dir()  # TRL makes a card at each checkpoint
    saved = (tmp_path / "model" / "README.md").read_text()
    assert trainer.run is not None
    last = trainer.run.read_metrics()[-1]
    assert f"| Brier score of the foretold pass rate | {last['awareness/brier']:.3f} |" in saved
    assert f"| pass@1 | {100 * last['pass_rate']:.1f} % |" in saved
    assert f"{trainer.ledger.generated_tokens:,} tokens were generated in 2 steps" in saved

    trainer.create_model_card("named", tags=["mine"])  # as push_to_hub does
    pushed = (tmp_path / "run" / "README.md").read_text()
    assert "# named" in pushed
    assert "- mine\n" in pushed
