"""A model by the name the user gives it: where it is, how it was trained, and ready to roll out."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masa import models
from masa.cli.data_source import DEFAULT_CONFIG, read_yaml
from masa.errors import UserError
from masa.records import Rollout
from masa.rollout.prompting import Prompt
from masa.runs.folder import CONFIG

if TYPE_CHECKING:
    from masa.rollout.local import LocalEngine

_WEIGHTS = (".safetensors", ".bin")
_SAMPLES, _SAMPLE_BYTES = 32, 4096


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model that can be loaded."""

    name: str
    """As the user named it."""
    path: str
    """As `from_pretrained` takes it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the run that trained it, or that the bundled model is meant for; empty where nothing is known."""
    config: str = ""
    """The file that the settings come from."""


def find_model(name: str) -> NamedModel:
    """A model from a folder, a Hub id, a name of `masa.models`, or a run folder (the model it ended with).

    A model inside a run folder (`model`, `checkpoint-N`) brings the run's settings too.

    Raises:
        UserError: if it does not exist, or the run has not ended.
    """
    if name == models.BUNDLED:
        return NamedModel(name, models.resolve(name), read_yaml(DEFAULT_CONFIG), str(DEFAULT_CONFIG))
    path = Path(name).expanduser()
    if _is_run(path) and not _is_model(path):
        if not _is_model(path / "model"):
            checkpoints = sorted(entry.name for entry in path.glob("checkpoint-*") if _is_model(entry))
            remedy = f"name one of its checkpoints ({', '.join(checkpoints)})" if checkpoints else "let it end first"
            raise UserError(f"run {name} has no folder `model` yet: {remedy}")
        return NamedModel(name, str(path / "model"), read_yaml(path / CONFIG), str(path / CONFIG))
    where = str(path) if _is_model(path) else models.resolve(name)
    config = Path(where).resolve().parent / CONFIG
    if Path(where).is_dir() and config.exists():
        return NamedModel(name, where, read_yaml(config), str(config))
    return NamedModel(name, where)


def _is_run(path: Path) -> bool:
    return (path / CONFIG).is_file()


def _is_model(path: Path) -> bool:
    """Whether `from_pretrained` takes the folder: a whole model, or adapters that name theirs."""
    return (path / "config.json").is_file() or (path / "adapter_config.json").is_file()


def fingerprint(path: str) -> str:
    """A short digest of a model folder's weights, by samples of each file; a Hub id is its own.

    Training moves every weight, so samples tell one state of a model from the next at the price of none.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(entry for entry in folder.iterdir() if entry.suffix in _WEIGHTS):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        with file.open("rb") as opened:
            for sample in range(_SAMPLES):
                opened.seek(sample * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(opened.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def load_model(path: str, *, is_trained: bool = False) -> tuple[Any, Any]:
    """The model, in float32, and its tokenizer.

    Args:
        path: a folder or Hub id.
        is_trained: whether it is loaded to be trained by `masa train`, which needs a chat template.

    Raises:
        UserError: if it cannot be loaded, or lacks the template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", truncation_side="left")
        model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model {path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    if is_trained and tokenizer.chat_template is None:
        raise UserError(
            f"the tokenizer of {path} has no chat template: add one (tokenizer.chat_template), or train from "
            "Python with a dataset whose prompts are plain text"
        )
    return model, tokenizer


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded model behind an engine, with its tokenizer's two directions."""

    engine: LocalEngine
    tokenizer: Any
    positions: int | None
    """Tokens of prompt and rollout together; None without a bound."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held over every use of the tokenizer, which no two threads may use at a time."""

    @property
    def is_chat(self) -> bool:
        """Whether there is a chat template; prompts are plain texts otherwise."""
        return self.tokenizer.chat_template is not None

    def tokenize(self, prompts: list[Prompt]) -> list[list[int]]:
        """Token ids of prompts, chat messages by the template."""
        if not prompts:
            return []
        with self.lock:
            if isinstance(prompts[0], str):
                return [list(ids) for ids in self.tokenizer(prompts)["input_ids"]]
            ids = self.tokenizer.apply_chat_template(
                prompts, add_generation_prompt=True, tokenize=True, return_dict=True
            )
        return [list(row) for row in ids["input_ids"]]

    def decode(self, rollouts: Sequence[Rollout]) -> list[str]:
        """Rollouts to texts, special tokens skipped."""
        return self.decode_ids([rollout.token_ids for rollout in rollouts])

    def decode_ids(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Token ids to texts, special tokens skipped."""
        if not ids:
            return []
        with self.lock:
            return list(self.tokenizer.batch_decode([list(row) for row in ids], skip_special_tokens=True))


def load_policy(
    model: NamedModel, *, batch_size: int = 128, threads: int | None = None, bf16: bool | None = None
) -> Policy:
    """A model on the GPU if there is one, else on the CPU.

    Args:
        model: which one.
        batch_size: rows decoded at the same time.
        threads: on a CPU; default: one for a small model, else as they are.
        bf16: whether to compute in bfloat16; default: as the run that trained it did, else where the processor
            multiplies bfloat16 in hardware and the model is large enough to gain by it.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    from masa.rollout.local import LocalEngine
    from masa.training.machine import SMALL_MODEL, cpu_has_fast_bf16, thread_count

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    weights, tokenizer = load_model(model.path)
    if torch.cuda.is_available():
        weights = weights.to("cuda")
    if bf16 is None:
        bf16 = model.settings.get("bf16", "auto" if model.name != models.BUNDLED else False)
    if not isinstance(bf16, bool):
        is_large = sum(parameter.numel() for parameter in weights.parameters()) >= SMALL_MODEL
        bf16 = is_large and (torch.cuda.is_bf16_supported() if torch.cuda.is_available() else cpu_has_fast_bf16())
    try:
        engine = LocalEngine(
            weights,
            tokenizer,
            max_batch_size=batch_size,
            num_threads=thread_count(threads, weights),
            compute_dtype=torch.bfloat16 if bf16 else None,
        )
    except ValueError as error:  # a model that the engine cannot serve
        raise UserError(f"model {model.name}: {error}") from error
    return Policy(engine, tokenizer, engine.positions)
