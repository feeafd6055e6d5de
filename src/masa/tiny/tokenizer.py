"""The bundled model's tokenizer: one token a digit, one a frequent word, bytes for everything else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .predictions import NOTIONS

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"

PIECES = (
    '{"math_notion": ["', '", "', '"], "pass_rate": ', ', "solution_length": ', "<meta>", "</meta>", "\\boxed{",
)  # fmt: skip
"""Pieces of the answers' formats that are one token each. They are text, not special: decoding keeps them."""

# a space belongs to the word before it, so that a word is one token before a number and before a word alike
_SPLIT = r"\d| ?[-+*,;:.=] ?| ?[A-Za-z_]+[ \n]?|[\s\S]"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(texts: Iterable[str], *, minimum_count: int = 3) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are those that come at least `minimum_count` times in `texts`.

    There are no merges: a word of the vocabulary is taken whole, any other text falls back to its bytes, so that
    everything can be encoded and decodes to itself.
    """
    counts: Counter[str] = Counter()
    pieces = re.compile("|".join(map(re.escape, sorted(PIECES, key=len, reverse=True))))
    for text in texts:
        for part in pieces.split(text):
            counts.update(word for word in re.findall(_SPLIT, part) if len(word) > 1)
    words = {word for word, count in counts.items() if count >= minimum_count}
    words |= {"user\n", "assistant\n", "system\n"}
    words |= {word for notion in NOTIONS for word in re.findall(_SPLIT, notion)}
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = ["".join(piece for piece, _ in to_bytes.pre_tokenize_str(word)) for word in sorted(words)]
    vocabulary = {token: index for index, token in enumerate([*alphabet, *spelled])}

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_SPLIT), "isolated"), to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (PAD, START, END)])
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in PIECES])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
