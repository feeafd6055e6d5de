from pathlib import Path

import torch

from masa.tiny import load
from masa.tiny.corpus import FINAL_BLEND, SKILL_BLEND
from masa.tiny.recipe import Stage, build


def test_a_few_steps_are_reproducible_and_can_be_loaded(tmp_path: Path) -> None:
    stages = [Stage(SKILL_BLEND, 3, 8, 1e-3, 1e-3, warmup_steps=2), Stage(FINAL_BLEND, 2, 4, 1e-3, 1e-4)]
    lines: list[str] = []
    build(tmp_path / "a", seed=1, stages=stages, log=lines.append)
    build(tmp_path / "b", seed=1, stages=stages, log=lines.append)
    first, tokenizer = load(tmp_path / "a")
    second, _ = load(tmp_path / "b")
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert tokenizer.eos_token_id == first.config.eos_token_id
