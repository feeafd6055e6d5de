"""Logs of other trainers: read, grouped, summed up, and refused by file, line and column."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import BY_HAND, rows, write

from masa.awareness.intervals import wilson_interval
from masa.errors import UserError
from masa.evaluation.log_summary import summarise
from masa.evaluation.logged_rollouts import LogColumns, LoggedRollouts, read_log
from masa.runs import RunFolder


def log_of(path: Path, groups: Any = BY_HAND) -> LoggedRollouts:
    return read_log(write(path / "log.jsonl", rows(groups)))


def test_groups_by_hand(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    assert log.steps.tolist() == [1, 1, 2, 2, 3, 3]
    assert log.problems.tolist() == [0, 1, 0, 2, 0, 1]
    assert log.sizes.tolist() == [2] * 6
    assert log.right.tolist() == [2, 0, 1, 1, 2, 1]
    assert log.tokens.tolist() == [30, 100, 40, 70, 30, 130]
    assert log.zero_variance.tolist() == [True, True, False, False, True, False]
    assert list(log.by_step()) == [(1, range(0, 2)), (2, range(2, 4)), (3, range(4, 6))]


def test_summary_by_hand(tmp_path: Path) -> None:
    summary = summarise(log_of(tmp_path))
    assert (summary.rollouts, summary.groups, summary.steps, summary.problems) == (12, 6, 3, 3)
    assert (summary.visits, summary.most_visits) == (2, 3)
    assert summary.returning == 0.5  # three of six groups are of a problem seen before
    whole = summary.whole
    assert (whole.first_step, whole.last_step, whole.tokens) == (1, 3, 400)
    assert (whole.zero_variance_tokens, whole.wrong_tokens) == (160, 250)
    assert whole.zero_variance.share == 0.5
    assert (whole.right, whole.wrong) == (pytest.approx(2 / 6), pytest.approx(1 / 6))
    assert whole.pass_rate == pytest.approx(7 / 12)
    assert [third.zero_variance.share for third in summary.thirds] == [1, 0, 0.5]
    assert [third.tokens for third in summary.thirds] == [130, 110, 160]


def test_the_interval_is_wilsons_where_no_problem_comes_back(tmp_path: Path) -> None:
    groups = [(1, f"{i}", [1, int(i < 3)], [5, 5]) for i in range(10)]
    found = summarise(log_of(tmp_path, groups)).whole.zero_variance
    expected = wilson_interval(3, 10)
    assert expected is not None
    assert (found.low, found.high, found.of) == (pytest.approx(expected.low), pytest.approx(expected.high), 10)
    # Ten visits to one and the same problem are worth fewer observations.
    alike = [(step, f"{i}", [1, int(i < 3)], [5, 5]) for step in range(10) for i in range(10)]
    found = summarise(log_of(tmp_path, alike)).whole.zero_variance
    plain = wilson_interval(30, 100)
    assert plain is not None
    assert found.low is not None
    assert found.low < plain.low


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    lines = rows(BY_HAND)
    random.Random(0).shuffle(lines)
    shuffled = read_log(write(tmp_path / "shuffled.jsonl", lines))
    assert summarise(shuffled) == summarise(log_of(tmp_path))


def test_every_kind_of_file(tmp_path: Path) -> None:
    import datasets

    expected = log_of(tmp_path)
    lines = rows(BY_HAND)
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress((tmp_path / "log.jsonl").read_bytes()))
    (tmp_path / "log.json").write_text(json.dumps(lines))
    datasets.Dataset.from_list([row | {"completion": "text"} for row in lines]).to_parquet(
        str(tmp_path / "log.parquet")
    )
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts/1.jsonl", lines[:5])
    write(tmp_path / "parts/2.jsonl", lines[5:])
    for name in ("log.jsonl.gz", "log.json", "log.parquet", "parts"):
        found = read_log(tmp_path / name)
        for part in ("correct", "lengths", "starts", "steps", "problems", "zero_variance"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_other_names_rewards_and_ways_to_name_a_problem(tmp_path: Path) -> None:
    def messages(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    lines = [
        {"prompt": messages("a"), "reward": 1.1, "completion_length": 3.0, "global_step": 1},
        {"prompt": messages("a"), "reward": 1.0, "completion_length": 4.0, "global_step": 1},
        {"prompt": messages("b"), "reward": 0.1, "completion_length": 5.0, "global_step": 1},
        {"prompt": messages("b"), "reward": 0.1, "completion_length": 6.0, "global_step": 1},
        {"prompt": 7, "reward": 0.9, "completion_length": 5, "global_step": 1},
        {"prompt": 7.0, "reward": 0.9, "completion_length": 5, "global_step": 1},
    ]
    columns = LogColumns("prompt", "reward", "completion_length", "global_step")
    path = write(tmp_path / "log.jsonl", lines)
    log = read_log(path, columns)
    assert log.right.tolist() == [2, 0, 0]
    # Zero variance is a matter of rewards: the first group is all right, and yet teaches.
    assert log.zero_variance.tolist() == [False, True, True]
    assert summarise(log).unequal_rewards == 1
    assert read_log(path, columns, correct_threshold=0.9).right.tolist() == [2, 0, 2]


def test_groups_of_one_are_left_out_and_counted(tmp_path: Path) -> None:
    log = log_of(tmp_path, [(1, "lonely", [1], [1000]), *BY_HAND, (9, "a", [0], [1000])])
    assert (log.singles, len(log.steps), int(log.lengths.sum())) == (2, 6, 400)
    with pytest.raises(UserError, match=r"none of its 2 groups has more than one .* --step-column or --problem-column"):
        log_of(tmp_path, [(1, "a", [1], [5]), (2, "a", [1], [5])])


def test_a_run_folder_of_ours(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {})
    for step in (1, 2):
        lines = [
            row | {"role": "solution", "reward": 0.5 * row["correct"], "finish_reason": "stop"}
            for row in rows(BY_HAND)
            if row["step"] == step
        ]
        lines[0]["reward"] = 0.25
        lines[1]["finish_reason"] = "cutoff"
        meta = {"step": step, "problem": "a", "role": "meta", "length": 9, "gated": False}
        run.write_rollouts(step, [*lines, meta, meta | {"problem": "d", "gated": True}, meta])
    log = read_log(tmp_path / "run")
    assert log.right.tolist() == [2, 0, 1, 1]
    # By the rewards of the run, not by what is correct.
    assert log.zero_variance.tolist() == [False, True, False, False]
    assert (log.meta_rollouts, log.gated, log.cut) == (6, 2, 2)
    RunFolder.create(tmp_path / "empty", {})
    with pytest.raises(UserError, match="has left no rollouts"):
        read_log(tmp_path / "empty")


GOOD = {"step": 1, "problem": "a", "correct": True, "length": 5}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"step": 1, "problem": "a", "correct": 1, "lengths": 5}, "no column 'length': did you mean 'lengths'? name"),
        (
            {"step": 1, "problem": "a", "correct": 1, "completion_length": 5},
            "no column 'length': did you mean 'completion_length'? name the column with --length-column (generated",
        ),
        ({"global_step": 1, "problem": "a", "correct": 1, "length": 5}, "did you mean 'global_step'? name the column"),
        (
            {"x": 1, "problem": "a", "correct": 1, "length": 5},
            "no column 'step': it has 'x', 'problem', 'correct', 'len",
        ),
        ('{"step": 1,', "not valid JSON"),
        ("[1, 2]", "a JSON object was expected, this is a list"),
        (GOOD | {"length": "5"}, "column 'length' is \"5\": it must be a whole number of at least 0; mend or remove"),
        (GOOD | {"length": -1}, "column 'length' is -1: it must be a whole number of at least 0"),
        (GOOD | {"length": 1.5}, "column 'length' is 1.5"),
        (GOOD | {"length": True}, "column 'length' is true"),
        (GOOD | {"length": float("nan")}, "column 'length' is NaN"),
        (GOOD | {"length": 10**400}, "column 'length' is 1000"),
        (GOOD | {"step": None}, "column 'step' is null: it must be a whole number; mend"),
        (GOOD | {"correct": "yes"}, "column 'correct' is \"yes\": it must be a boolean, 0 or 1, or a reward"),
        (GOOD | {"correct": float("nan")}, "column 'correct' is NaN"),
        (GOOD | {"correct": float("inf")}, "column 'correct' is Infinity"),
        (GOOD | {"correct": 10**400}, "column 'correct' is 1000"),
        (GOOD | {"problem": None}, "column 'problem' is null: it must be a text, an id or chat messages"),
        (GOOD | {"problem": []}, "column 'problem' is []"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, said: str) -> None:
    path = write(tmp_path / "log.jsonl", [GOOD, "", {"role": "meta"}, GOOD, line, GOOD])
    with pytest.raises(UserError) as caught:
        read_log(path)
    assert str(caught.value).startswith(f"{path}, line 5: ")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bad_line_of_a_later_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", [GOOD, GOOD])
    write(tmp_path / "2.jsonl", [GOOD, GOOD | {"step": "x"}])
    with pytest.raises(UserError, match=r"2\.jsonl, line 2: column 'step' is"):
        read_log(tmp_path)


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content, said in (
        ("empty.jsonl", b"", "holds no rollouts: name a log with one line a rollout"),
        ("meta.jsonl", b'{"role": "meta"}\n', r"holds no rollouts \(1 predictions\)"),
        ("log.csv", b"a,b", "cannot read this kind of file"),
        ("log.jsonl.gz", b"no", "cannot be read"),
        ("half.jsonl.gz", gzip.compress(b'{"role": "meta"}\n' * 9999)[:40], "cannot be read"),
        ("log.parquet", b"no", "not a Parquet file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_log(tmp_path / name)
    with pytest.raises(UserError, match="do not exist: check the path"):
        read_log(tmp_path / "nothing.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="holds neither a run nor files of rollouts"):
        read_log(tmp_path / "folder")
