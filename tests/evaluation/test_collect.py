"""Answers in chunks: the figures by hand, and a stop in the middle that changes nothing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from policies import SAMPLES, WrittenEngine, data_set

from masa.errors import UserError
from masa.evaluation import answers as module
from masa.evaluation.answers import Answers, collect
from masa.evaluation.scores import score
from masa.records import Request, Rollout
from masa.runs.answers import AnswerFolder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "answers").iterdir())}


def test_scores_by_hand(tmp_path: Path) -> None:
    found = collect(WrittenEngine(), data_set(), AnswerFolder(tmp_path, {}), n=SAMPLES)
    scores = score([("letters", found)], ks=[1, 2, 4])
    (one,) = scores.sets
    assert (one.name, one.problems, one.n) == ("letters", 5, 4)
    # Problems with 0..4 right answers of 4.
    assert one.pass_at_k[1].value == one.mean_at_n.value == pytest.approx(0.5)
    assert one.pass_at_k[2].value == pytest.approx((0 + 1 / 2 + 5 / 6 + 1 + 1) / 5)
    assert one.pass_at_k[4].value == pytest.approx(4 / 5)
    assert one.majority_at_n.value == pytest.approx((0 + 0 + 1 / 2 + 1 + 1) / 5)
    assert one.mean_at_n.low < 0.5 < one.mean_at_n.high
    # Sample i is right for the problems with k > i: 4/5, 3/5, 2/5, 1/5.
    assert one.spread == pytest.approx(((0.3**2 + 0.1**2) * 2 / 3) ** 0.5)
    assert one.finish_reasons == {"stop": 20}
    assert (one.truncated_share, one.unanswered_share) == (0.0, 0.0)
    assert one.tokens == scores.tokens == 4 * (2 + 3 + 4 + 5 + 6)
    assert one.length.mean == pytest.approx(4.0)
    assert one.length.correct == pytest.approx((3 + 2 * 4 + 3 * 5 + 4 * 6) / 10)
    assert one.length.incorrect == pytest.approx((4 * 2 + 3 * 3 + 2 * 4 + 5) / 10)
    assert one.by_task == {"t/0": 0.0, "t/1": 0.25, "t/2": 0.5, "t/3": 0.75, "t/4": 1.0}
    assert scores.average is None


def test_the_average_over_sets_is_that_of_their_means(tmp_path: Path) -> None:
    found = collect(WrittenEngine(), data_set(), AnswerFolder(tmp_path, {}), n=SAMPLES)
    scores = score([("all", found), ("solved", found[-1:])], ks=[1])
    assert scores.average is not None
    assert scores.average.mean_at_n.value == pytest.approx((0.5 + 1.0) / 2)
    # The second set is a single problem, always solved: only the first one's spread is left, halved.
    width = scores.sets[0].mean_at_n.high - scores.sets[0].mean_at_n.low
    assert scores.average.mean_at_n.high - scores.average.mean_at_n.low == pytest.approx(width / 2, abs=0.05)


def test_one_answer_has_no_spread(tmp_path: Path) -> None:
    found = collect(WrittenEngine(), data_set(), AnswerFolder(tmp_path, {}), n=1)
    assert score([("letters", found)], ks=[1]).sets[0].spread is None


def test_a_stop_in_the_middle_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROLLOUTS", 24)  # three problems a chunk
    whole = collect(WrittenEngine(), data_set(2), AnswerFolder(tmp_path / "whole", {}), n=4, m=4)

    class Stopped(WrittenEngine):
        def generate(self, requests: Sequence[Request], *, logprobs: bool = False) -> list[Rollout]:
            if len(self.requests) >= 2 * 24:
                raise KeyboardInterrupt
            return super().generate(requests, logprobs=logprobs)

    told: list[tuple[int, int]] = []
    folder = AnswerFolder(tmp_path / "parts", {})
    with pytest.raises(KeyboardInterrupt):
        collect(Stopped(), data_set(2), folder, n=4, m=4)
    assert list(files(tmp_path / "parts")) == ["letters-0000.jsonl.gz", "letters-0001.jsonl.gz"]
    engine = WrittenEngine()
    again = AnswerFolder(tmp_path / "parts", {})
    rest = collect(engine, data_set(2), again, n=4, m=4, tell=lambda *said: told.append(said))
    assert rest == whole
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert len(engine.requests) == 4 * 8  # the last four problems alone
    assert [problems for problems, _ in told] == [3, 3, 3, 1]
    assert [tokens > 0 for _, tokens in told] == [False, False, True, True]


def test_every_answer_is_in_the_file_with_its_grade(tmp_path: Path) -> None:
    collect(WrittenEngine(), data_set(), AnswerFolder(tmp_path, {}), n=4, m=1)
    lines = gzip.decompress(files(tmp_path)["letters-0000.jsonl.gz"]).splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 5 * (4 + 1)
    solution = next(row for row in rows if row["problem"] == 2 and row["sample"] == 0 and row["role"] == "solution")
    assert solution == {
        "data": "letters",
        "problem": 2,
        "task": "t/2",
        "role": "solution",
        "sample": 0,
        "text": "yyyy",
        "length": 4,
        "finish_reason": "stop",
        "extracted": "y",
        "correct": True,
        "reason": "by its letter",
        "token_ids": [ord("y")] * 4,
    }
    meta = next(row for row in rows if row["problem"] == 2 and row["role"] == "meta")
    assert meta["prediction"] == {"pass_rate": 0.5, "length": 4, "notions": []}


def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = AnswerFolder(tmp_path, {})
    collect(WrittenEngine(), data_set(), folder, n=4)
    folder.write("letters", 0, (folder.read("letters", 0) or [])[:-1])
    with pytest.raises(UserError, match="chunk 0 of letters holds 19 rows instead of 20"):
        collect(WrittenEngine(), data_set(), folder, n=4)


def test_seeds_name_problem_and_sample_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = WrittenEngine(), WrittenEngine()
    collect(large, data_set(2), AnswerFolder(tmp_path / "large", {}), n=4)
    monkeypatch.setattr(module, "_CHUNK_ROLLOUTS", 4)
    collect(small, data_set(2), AnswerFolder(tmp_path / "small", {}), n=4)
    assert [request.seed for request in large.requests] == [request.seed for request in small.requests]
    assert len({request.seed for request in large.requests}) == 40


def test_a_set_without_problems_has_no_scores() -> None:
    none: list[Answers] = []
    with pytest.raises(ValueError, match="without problems"):
        score([("empty", none)], ks=[1])
