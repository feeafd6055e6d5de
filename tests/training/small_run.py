"""What the trainer's tests run on: a random model, a byte tokenizer, sums and a reward that varies."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from masa.awareness import ExpertTrajectory
from masa.records import Prediction

SETTINGS: dict[str, Any] = {
    "preset": "grpo",
    "problems_per_step": 4,
    "num_generations": 4,
    "micro_batch_rows": 8,
    "max_completion_length": 12,
    "min_solution_length": 2,
    "meta_prompt": "brief",
    "max_steps": 3,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "logging_steps": 1,
}
"""4 problems x 4 rollouts of at most 12 tokens a step."""

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in ("<|pad|>", "<|im_start|>", "<|im_end|>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", chat_template=TEMPLATE
    )


def sums(size: int) -> Dataset:
    rows = [(f"{i} plus {(i * 7) % 5}", str(i + (i * 7) % 5)) for i in range(size)]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": text}] for text, _ in rows],
            "answer": [answer for _, answer in rows],
        }
    )


def parity_of_length(completions: list[Any], **_: Any) -> list[float]:
    """A reward that varies within almost every group of a random model, and never otherwise."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [float(sum(map(ord, text)) % 2) for text in texts]


def small_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A random two-layer Qwen3: the whole trainer in seconds, without a download."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config).to(dtype)


def foretold(text: str, **_: Any) -> Prediction:
    """Reads what a random model says as a valid prediction."""
    return Prediction((len(text) % 9) / 8, 2 + len(text) % 9, (text[:1] or "x",))


def first_as_expert(
    problem: Any, texts: list[str], *_: Any, step: int, prompt_ids: Any, **__: Any
) -> ExpertTrajectory | None:
    """Makes an expert trajectory of every problem."""
    return ExpertTrajectory(problem.key, step, texts[0], tuple(prompt_ids))
