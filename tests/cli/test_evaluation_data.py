"""Names of data sets and of models, as the command line takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masa.cli.data_source import DataSource
from masa.cli.evaluation_data import find_set, find_sets, load_source
from masa.cli.loading import NamedModel, find_model, fingerprint
from masa.cli.measuring import Options
from masa.errors import UserError
from masa.tasks import benchmarks
from masa.tiny import MODEL_PATH

NO_RUN = NamedModel("owner/name", "owner/name")


def write_problems(path: Path, count: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"problem": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(count)))
    return path


def write_run(path: Path) -> Path:
    problems = write_problems(path / "problems.jsonl")
    (path / "config.yaml").write_text(
        f"heldout: {{data: [{{source: {problems}}}]}}\nprompt: 'Solve {{problem}}'\n"
        "max_completion_length: 50\nrun: {}\n"
    )
    return path


def test_files_by_path_and_by_name_in_the_data_folder(tmp_path: Path) -> None:
    file = write_problems(tmp_path / "sums" / "test.jsonl")
    assert [problem.text for problem in find_set(str(file)).problems] == ["0 + 1", "1 + 1", "2 + 1"]
    named = find_set("sums", data_dir=tmp_path, limit=2)
    assert (named.name, len(named.problems), named.prompt) == ("sums", 2, None)


def test_a_benchmark_gives_its_training_split_to_train_and_its_test_split_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, answer in (("train", "7"), ("test", "9")):
        path = write_problems(tmp_path / "gsm8k" / f"{split}.jsonl", 0)
        path.write_text(json.dumps({"question": "q", "answer": f"#### {answer}"}) + "\n" + json.dumps({"answer": "x"}))
    write_problems(tmp_path / "math500" / "test.jsonl")
    monkeypatch.setenv("MASA_DATA", str(tmp_path))
    (trained,), notes = load_source(DataSource("gsm8k"), is_test=False)
    (measured,), _ = load_source(DataSource("gsm8k"), is_test=True)
    assert (trained.answer, measured.answer, measured.task) == ("7", "9", "gsm8k")
    assert notes[0].startswith("gsm8k: 1 faulty rows left out, the first: ")
    assert measured == find_set("gsm8k").problems[0]
    assert len(load_source(DataSource("math500", limit=2), is_test=True)[0]) == 2
    with pytest.raises(UserError, match="math500: a benchmark to measure on, with no training split; train on gsm8k, "):
        load_source(DataSource("math500"), is_test=False)
    with pytest.raises(UserError, match="data gsm8k: a benchmark has no kind, split, only limit and seed"):
        load_source(DataSource("gsm8k", split="test", kind="math"), is_test=True)


def test_a_benchmark_that_a_config_holds_out_is_sought_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASA_DATA", raising=False)
    write_problems(tmp_path / "math500" / "test.jsonl")
    config = tmp_path / "config.yaml"
    config.write_text("data: bundled\nheldout: {data: math500}\n")
    found = find_set(str(config), data_dir=tmp_path)
    assert [problem.text.partition("\n")[0] for problem in found.problems] == ["0 + 1", "1 + 1", "2 + 1"]


def test_a_benchmark_that_cannot_be_had_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.delenv("MASA_DATA", raising=False)
    monkeypatch.setattr(benchmarks, "_fetched", fail)
    with pytest.raises(UserError, match=r"it comes from openai/gsm8k \(no network\).*gsm8k/train.jsonl.* MASA_DATA"):
        load_source(DataSource("gsm8k"), is_test=False)


def test_bundled_problems_are_held_out_and_procedural_ones_have_a_seed_of_their_own() -> None:
    from masa.tasks.dataset import load_problems

    assert find_set("bundled", limit=3).problems == load_problems("bundled", split="heldout", size=3).problems
    made, trained = find_set("reasoning_gym:gcd", limit=5), load_problems("reasoning_gym:gcd", size=5)
    assert [p.text for p in made.problems] != [p.text for p in trained.problems]


def test_a_config_names_its_held_out_problems_and_prompt(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    found = find_set(str(run / "config.yaml"), limit=2)
    assert [problem.key for problem in found.problems] == [0, 1]
    assert found.prompt == "Solve {problem}"
    assert find_sets(None, find_model_in(run), data_dir=None, limit=None)[0].problems[:2] == found.problems


def find_model_in(run: Path) -> NamedModel:
    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    return find_model(str(run))


def test_a_run_stands_for_its_model_and_a_checkpoint_for_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "checkpoint-5").mkdir()
    (run / "checkpoint-5" / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no folder `model` yet: name one of its checkpoints \(checkpoint-5\)"):
        find_model(str(run))
    found = find_model_in(run)
    assert found.path == str(run / "model")
    assert found.settings["max_completion_length"] == 50
    assert "run" not in found.settings
    checkpoint = find_model(str(run / "checkpoint-5"))
    assert (checkpoint.path, checkpoint.settings) == (str(run / "checkpoint-5"), found.settings)


def test_the_bundled_model_knows_its_settings_and_other_models_none() -> None:
    bundled = find_model("bundled")
    assert (bundled.settings["meta_prompt"], bundled.settings["max_completion_length"]) == ("brief", 192)
    assert find_model(str(MODEL_PATH)).settings == {}
    assert find_model("owner/name").settings == {}


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(100_000))
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before
    weights.write_bytes(bytes(99_999) + b"\1")
    assert fingerprint(str(tmp_path)) != before
    assert fingerprint("owner/name") == "owner/name"


@pytest.mark.parametrize(
    ("names", "limit", "said"),
    [
        (None, None, "no data to measure owner/name on: give --data"),
        (",", None, "names no data set"),
        ("bundled,bundled", 2, "--data names bundled twice"),
        ("bundled", 0, "--limit 0: it must be at least 1"),
        ("nothing.jsonl", None, "nothing.jsonl"),
        ("reasoning_gym:gdc", None, "gcd"),
    ],
)
def test_mistakes_name_place_and_remedy(names: str | None, limit: int | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        find_sets(names, NO_RUN, data_dir=None, limit=limit)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n": 0}, "--n 0: it must be at least 1"),
        ({"temperature": -1.0}, "--temperature -1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_p": 0.0}, "--top-p 0"),
        ({"prompt": "no place"}, "must contain {problem}"),
        ({"max_tokens": 0}, "--max-tokens 0"),
    ],
)
def test_options_out_of_range(values: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Options(**values)  # type: ignore[arg-type]


def test_a_benchmark_brings_its_own_prompt_and_grader(tmp_path: Path) -> None:
    (tmp_path / "aime24").mkdir()
    row = {"id": "2024-I-1", "problem": "How much is 5 times 5?", "answer": "025"}
    (tmp_path / "aime24" / "test.jsonl").write_text(json.dumps(row) + "\n")
    found = find_set("aime24", data_dir=tmp_path)
    (problem,) = found.problems
    assert found.prompt == "{problem}"  # it holds its template already
    assert "How much is 5 times 5?" in problem.text
    assert "boxed" in problem.text
    assert [grade.correct for grade in found.grade([problem] * 2, ["So \\boxed{25}.", "So \\boxed{26}."])] == [
        True,
        False,
    ]
