from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from masa.tiny.corpus import write_corpus
from masa.tiny.recipe import corpus_tokenizer
from masa.tiny.tokenizer import END, PIECES


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    corpus_tokenizer(0).save_pretrained(folder)
    loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder)
    return loaded


def test_corpus_decodes_to_itself(tokenizer: PreTrainedTokenizerFast) -> None:
    for document in write_corpus(300, seed=7):
        for text in (document.prompt, document.answer):
            assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces ",
        "Grüße, 数学 🙂",
        "tab\tand\r\nlines\n",
        "users assistant",
        "1e-7 \\frac{a}{b}",
        "\x00",
    ],
)
def test_any_text_decodes_to_itself(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_digits_words_and_pieces_are_one_token_each(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer.encode("1234567890")) == 10
    assert len(tokenizer.encode("17 + 25")) == 5
    assert len(tokenizer.encode("running total 7")) == 3
    for piece in PIECES:
        assert len(tokenizer.encode(piece)) == 1
        assert tokenizer.decode(tokenizer.encode(piece), skip_special_tokens=True) == piece


def test_template(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "gcd 12 18"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\ngcd 12 18<|im_end|>\n<|im_start|>assistant\n"
    )
    alone = tokenizer.apply_chat_template(messages[1:], add_generation_prompt=True, return_dict=False)
    assert len(alone) == len(tokenizer.encode("gcd 12 18")) + 6


def test_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.eos_token == END
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert len(tokenizer) <= 400
