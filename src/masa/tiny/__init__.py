"""The bundled model: under a million parameters, for demonstrations and tests on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

MODEL_PATH = Path(__file__).parent / "model"
"""Folder of the bundled model, as `AutoModelForCausalLM.from_pretrained` takes it."""


def load(path: Path = MODEL_PATH) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerBase]:
    """The bundled model in evaluation mode, and its tokenizer; touches no network."""
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(path, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return model.eval(), tokenizer
