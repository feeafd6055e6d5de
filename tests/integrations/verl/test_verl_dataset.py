"""Rows as verl's own loader makes them."""

import pytest

pytest.importorskip("verl", reason="needs verl: make test-verl")

from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler
from verl.utils.dataset.rl_dataset import collate_fn
from verl_rows import QUESTIONS, row, write_rows

from masa.errors import UserError
from masa.integrations.verl.dataset import MASADataset, Sampling

SAMPLING = Sampling(solutions=4, predictions=2, agent="tool_agent")


def make_dataset(config, tokenizer, which="train_files"):
    return create_rl_dataset(config.data[which], config.data, tokenizer, None)


def batches(dataset, config, **kwargs):
    sampler = create_rl_sampler(config.data, dataset)
    return StatefulDataLoader(dataset, batch_size=2, drop_last=True, collate_fn=collate_fn, sampler=sampler, **kwargs)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_problems_holds_both_rows_of_each(make_config, tokenizer, workers):
    config = make_config("data.shuffle=true", "data.seed=3")
    dataset = make_dataset(config, tokenizer)
    assert isinstance(dataset, MASADataset)
    assert len(dataset) == 4  # problems: verl's epochs and step counts hang on it
    dataset.claim(SAMPLING)

    seen = []
    for batch in batches(dataset, config, num_workers=workers):
        assert list(batch["is_meta"]) == [False, True, False, True]
        assert batch["masa_key"][0] == batch["masa_key"][1] != batch["masa_key"][2] == batch["masa_key"][3]
        assert list(batch["__rollout_n__"]) == [4, 2, 4, 2]
        assert list(batch["agent_name"]) == ["tool_agent", "single_turn_agent"] * 2
        assert {len(values) for values in batch.values()} == {4}
        seen += list(batch["masa_problem"][::2])
    assert sorted(seen) == sorted(QUESTIONS)
    assert seen != list(QUESTIONS)  # shuffled, pairs unbroken


def test_the_meta_prompt_keeps_the_system_message_and_asks_about_the_bare_question(make_config, tokenizer):
    config = make_config("+data.masa.template=brief")
    dataset = make_dataset(config, tokenizer)
    dataset.claim(SAMPLING)
    solution, meta = dataset.__getitems__([2])
    assert solution["raw_prompt"][1]["content"] == "What is 6*7? Box it."
    system, user = meta["raw_prompt"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"].endswith("\nWhat is 6*7?")
    assert "solution_length 8-160" in user["content"]
    assert meta["prompt"] == meta["raw_prompt"]
    meta["extra_info"]["num_turns"] = 1  # as verl's reward managers do
    assert "num_turns" not in solution["extra_info"]
    again = dataset.__getitems__([2])
    assert again[0]["masa_key"] != solution["masa_key"]  # another visit


def test_without_a_key_the_question_is_the_last_user_message(make_config, tokenizer):
    dataset = make_dataset(make_config("data.masa.problem_key=null"), tokenizer)
    dataset.claim(SAMPLING)
    assert dataset.__getitems__([0])[1]["masa_problem"] == "What is 2+3? Box it."


def test_validation_files_give_verls_own_rows(make_config, tokenizer):
    config = make_config()
    rows = make_dataset(config, tokenizer, "val_files").__getitems__([0])
    assert len(rows) == 1
    assert "is_meta" not in rows[0]


def test_prompts_are_filtered_by_the_longer_of_both(make_config, tokenizer, tmp_path):
    def length(messages):
        return len(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)["input_ids"])

    questions = ["Is 1 odd?", "Is 1 odd" + "?" * 50]
    path = write_rows(tmp_path / "two.jsonl", [row(question, "yes") for question in questions])
    plain = make_config(f"data.train_files={path}")
    dataset = make_dataset(plain, tokenizer)
    dataset.claim(SAMPLING)
    solutions, metas = zip(*[dataset.__getitems__([i]) for i in range(2)], strict=True)
    long_solution, short_meta, long_meta = (length(r["raw_prompt"]) for r in (solutions[1], metas[0], metas[1]))
    assert long_solution < short_meta < long_meta

    config = make_config(
        f"data.train_files={path}", "data.filter_overlong_prompts=true", f"data.max_prompt_length={short_meta}"
    )
    kept = make_dataset(config, tokenizer)
    assert len(kept) == 1
    assert kept[0]["extra_info"]["question"] == questions[0]
    config.data.val_files = path
    config.data.train_files = "elsewhere"
    assert len(make_dataset(config, tokenizer, "val_files")) == 2  # judged by its own prompt alone


def test_any_other_trainer_is_refused(make_config, tokenizer):
    config = make_config()
    with pytest.raises(UserError, match="trainer_mode=masa"):
        next(iter(batches(make_dataset(config, tokenizer), config)))


def test_mistakes_are_named(make_config, tokenizer):
    with pytest.raises(UserError, match=r"data.masa.*did you mean 'min_length'"):
        make_dataset(make_config("+data.masa.min_lenght=3"), tokenizer)
    with pytest.raises(UserError, match=r"min_length is 500.*160"):
        make_dataset(make_config("data.masa.min_length=500"), tokenizer)
    with pytest.raises(UserError, match="predictions is 'many'"):
        make_dataset(make_config("+data.masa.predictions=many"), tokenizer)
    with pytest.raises(UserError, match=r"unknown meta prompt 'maths'.*'math'"):
        make_dataset(make_config("+data.masa.template=maths"), tokenizer)
    dataset = make_dataset(make_config("data.masa.problem_key=extra_info.text"), tokenizer)
    dataset.claim(SAMPLING)
    with pytest.raises(UserError, match=r"no plain text in extra_info.text.*problem_key"):
        dataset.__getitems__([0])
