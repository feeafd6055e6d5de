from pathlib import Path

import torch

from masa.tiny import load
from masa.tiny.recipe import Recipe, build


def test_a_few_steps_are_reproducible_and_can_be_loaded(tmp_path: Path) -> None:
    recipe = Recipe(steps=4, batch_size=8, warmup_steps=2, checkpoint_steps=2)
    lines: list[str] = []
    build(tmp_path / "a", seed=1, recipe=recipe, log=lines.append)
    build(tmp_path / "b", seed=1, recipe=recipe, log=lines.append)
    first, tokenizer = load(tmp_path / "a")
    second, _ = load(tmp_path / "b")
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert tokenizer.eos_token_id == first.config.eos_token_id
    assert (tmp_path / "a" / "checkpoint-2" / "model.safetensors").is_file()
