"""Problems from rows, and errors that say where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from masa.errors import UserError
from masa.tasks.dataset import load_problems, to_dataset

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


GOOD = {"problem": "1 + 1", "answer": "2"}


def test_json_lines(tmp_path: Path) -> None:
    odd = {"problem": "one\u2028line", "answer": 3, "level": 5, "task": "sums/1", "kind": "literal"}
    path = write(tmp_path / "data.jsonl", GOOD, "", odd)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    problems = load_problems(str(path)).problems
    assert [(problem.key, problem.text, problem.answer, problem.kind) for problem in problems] == [
        (0, "1 + 1", "2", "math"),
        (1, "one\u2028line", "3", "literal"),
    ]
    assert problems[1].task == "sums/1"
    assert problems[1].extra == {"level": 5}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{nonsense", r"line 2: not valid JSON"),
        ("[1]", r"line 2: a JSON object was expected, this is a list"),
        ({"problem": "q"}, r"line 2: field 'answer' is missing \(fields there: problem\)"),
        ({"answer": "a"}, r"line 2: field 'problem' is missing"),
        ({"problem": "q", "answer": " "}, r"line 2: field 'answer' is empty"),
        ({"problem": "", "answer": "a"}, r"line 2: field 'problem' is empty"),
        ({"problem": 5, "answer": "a"}, r"line 2: field 'problem' must be a text or chat messages, got int"),
        ({"problem": "q", "answer": None}, r"line 2: field 'answer' must be a text or a number, got null"),
        ({"problem": "q", "answer": ["a"]}, r"line 2: field 'answer' must be a text or a number, got list"),
        ({"problem": "q", "answer": True}, r"line 2: field 'answer' must be .* got bool"),
        ('{"problem": "q", "answer": NaN}', r"line 2: field 'answer' is nan"),
        ({"problem": "q", "answer": "a", "kind": "maht"}, r"line 2: field 'kind' names no grader.*'math'"),
        (
            {"prompt": [{"role": "system", "content": "s"}], "answer": "a"},
            r"line 2: field 'prompt' has no user message",
        ),
    ],
)
def test_faulty_rows_are_named_or_skipped(tmp_path: Path, row: Any, complaint: str) -> None:
    path = write(tmp_path / "data.jsonl", GOOD, row, GOOD)
    with pytest.raises(UserError, match=rf"data\.jsonl, {complaint}"):
        load_problems(path)
    kept = load_problems(path, on_error="skip")
    assert [problem.key for problem in kept.problems] == [0, 1]
    assert kept.skipped == 1
    assert len(kept.complaints) == 1


def test_the_error_counts_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", "x", GOOD, "y", "z")
    with pytest.raises(UserError, match=r"line 1: .*and 2 more faulty rows.*on_error='skip'") as error:
        load_problems(path)
    assert "\n" not in str(error.value)


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no problem to use"):
        load_problems(write(tmp_path / "a.jsonl", "x"), on_error="skip")
    with pytest.raises(UserError, match="it is empty"):
        load_problems([])


def test_limit_stops_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", GOOD, "faulty, but never reached")
    assert len(load_problems(path, limit=1)) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.jsonl", "does not exist"),
        ("./missing", "does not exist"),
        ("a/b/c", "does not exist"),
        ("bundeld", "neither a file, nor a Hub id"),
        ("reasoning_gym:chain_smu", "did you mean 'chain_sum'"),
    ],
)
def test_missing_sources_never_reach_the_network(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(datasets, "load_dataset", forbidden)
    with pytest.raises(UserError, match=message):
        load_problems(source)


def test_a_hub_id_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = datasets.DatasetDict(test=datasets.Dataset.from_list([GOOD]), train=datasets.Dataset.from_list([GOOD] * 2))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: loaded)
    assert len(load_problems("owner/name")) == 2
    assert len(load_problems("owner/name", split="test")) == 1
    with pytest.raises(UserError, match="no split 'dev': it has test, train"):
        load_problems("owner/name", split="dev")

    def offline(name: str, config: str | None) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match=r"'owner/name' is not a file here.*no network\)"):
        load_problems("owner/name")


def test_parquet_json_and_saved_folders(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([GOOD, {"problem": "2 + 2", "answer": "4"}])
    rows.to_parquet(str(tmp_path / "data.parquet"))
    rows.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "data.json").write_text(json.dumps(rows.to_list(), indent=1))
    for name in ("data.parquet", "saved", "data.json"):
        assert [problem.answer for problem in load_problems(tmp_path / name).problems] == ["2", "4"]
    assert [problem.text for problem in load_problems(rows).problems] == ["1 + 1", "2 + 2"]
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match="not a Parquet file"):
        load_problems(tmp_path / "bad.parquet")
    with pytest.raises(UserError, match="cannot read this kind of file"):
        load_problems(write(tmp_path / "data.csv", "a,b"))
    with pytest.raises(UserError, match=r"one of its files, for example .*bad\.parquet"):
        load_problems(tmp_path)
    with pytest.raises(UserError, match="give one of them"):
        load_problems(datasets.DatasetDict(train=rows))


def test_chat_prompts_and_dotted_columns() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
    ]
    row = {"prompt": messages, "reward_model": {"ground_truth": "4"}}
    problems = load_problems([row], answer_column="reward_model.ground_truth").problems
    assert (problems[0].text, problems[0].answer) == ("2 + 2?", "4")
    data = to_dataset(problems, system="Another.")
    assert data[0]["prompt"] == messages
    with pytest.raises(UserError, match="row 0: field 'question' is missing"):
        load_problems([row], problem_column="question")


def test_rows_for_trl() -> None:
    rows = [
        {**GOOD, "level": 1, "tags": ["a"], "meta": {"x": 1}, "mixed": "a", "pair": (1, 2)},
        {**GOOD, "level": 2, "tags": ["b", "c"], "meta": {"y": 2}, "mixed": 3, "pair": (3, 4)},
    ]
    data = to_dataset(load_problems(rows, kind="literal").problems, system="Think.")
    assert data[0]["prompt"] == [{"role": "system", "content": "Think."}, {"role": "user", "content": "1 + 1"}]
    assert (data[0]["problem"], data[0]["answer"], data[0]["kind"], data[0]["task"]) == ("1 + 1", "2", "literal", "")
    assert data["level"][:] == [1, 2]
    assert data["tags"][:] == [["a"], ["b", "c"]]
    assert data["meta"][:] == ['{"x": 1}', '{"y": 2}']
    assert data["mixed"][:] == ['"a"', "3"]
    assert data["pair"][:] == ["(1, 2)", "(3, 4)"]


def test_procedural_sources() -> None:
    train = load_problems("bundled", size=50, seed=1)
    held_out = load_problems("bundled", size=50, seed=1, split="heldout")
    assert len(train) == len(held_out) == 50
    assert not {p.text for p in train.problems} & {p.text for p in held_out.problems}
    sums = load_problems("reasoning_gym:chain_sum", size=3, seed=1, config={"min_terms": 2, "max_terms": 2})
    assert [problem.task for problem in sums.problems] == ["chain_sum"] * 3
    with pytest.raises(UserError, match="no split 'test'"):
        load_problems("bundled", split="test")


@pytest.mark.skipif(not GSM8K.exists(), reason=f"GSM8K is not here ({GSM8K})")
def test_gsm8k_whole() -> None:
    problems = load_problems(GSM8K).problems
    assert len(problems) == 7473
    assert sum("\u2028" in problem.text for problem in problems) > 0
