"""What `masa solve` is asked: questions from options and files, settings that go together, calibrated limits."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from masa.cli import app
from masa.cli.arguments import settings_from
from masa.cli.evaluate_command import evaluate
from masa.cli.loading import NamedModel, find_model
from masa.cli.measuring import Options, prepare
from masa.cli.serve_command import serve
from masa.cli.solve import Asked, foretold_rank
from masa.cli.solve_command import solve
from masa.cli.spending import Spending, length_calibration
from masa.errors import UserError
from masa.tiny import MODEL_PATH


def test_questions_of_every_kind_of_file(tmp_path: Path) -> None:
    assert [one.text for one in Asked("1 + 1").problems(None).problems] == ["1 + 1"]
    text = tmp_path / "questions.txt"
    text.write_bytes("\ufeff1 + 1\r\n\n  2 + 2  \nwhat\u2028now?".encode())
    found = Asked(file=text, kind="literal").problems(None).problems
    assert [(one.key, one.text, one.kind) for one in found] == [
        (0, "1 + 1", "literal"),
        (1, "2 + 2", "literal"),
        (2, "what\u2028now?", "literal"),
    ]
    assert len(Asked(file=text).problems(2).problems) == 2
    rows = tmp_path / "questions.jsonl"
    lines = [{"problem": "Which?", "kind": "choice", "choices": ["red", "blue"]}, {"problem": "1 + 1", "answer": "2"}]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = Asked(file=rows).problems(None).problems
    assert (first.kind, first.answer, first.extra["choices"]) == ("choice", "", ["red", "blue"])
    assert (second.kind, second.answer) == ("math", "")
    rows.write_text(json.dumps({"question": "1 + 1"}))
    assert Asked(file=rows, problem_column="question").problems(None).problems[0].text == "1 + 1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give one"),
        ({"question": "1 + 1", "file": Path("x")}, "give one"),
        ({"question": "  "}, "--question is empty"),
        ({"question": "1 + \udcff"}, "question 0 holds half a character (a lone surrogate)"),
        ({"question": "1", "kind": "mth"}, "unknown grader kind 'mth' in --kind: did you mean 'math'"),
        ({"question": "1", "kind": "code"}, "cannot be counted as votes: give one of math"),
        ({"file": Path("nothing.txt")}, "nothing.txt cannot be read (No such file or directory): check the path"),
        ({"file": Path("nothing.jsonl")}, "data file nothing.jsonl does not exist: check the path"),
        ({"file": Path("bad.csv")}, "cannot read this kind of file"),
        ({"file": Path("empty.txt")}, "empty.txt holds no question"),
        ({"file": Path("latin.txt")}, "latin.txt is not UTF-8"),
        ({"file": Path("row.jsonl")}, "row.jsonl, line 1: field 'problem' is missing (fields there: question)"),
    ],
)
def test_questions_that_are_none(
    given: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("1,2\n")
    Path("empty.txt").write_text("\n \n")
    Path("latin.txt").write_bytes(b"\xe9\n")
    Path("row.jsonl").write_text('{"question": "1 + 1"}\n')
    with pytest.raises(UserError) as caught:
        Asked(**given).problems(None)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": "bth"}, "unknown strategy 'bth': did you mean 'both'"),
        ({"samples": 0}, "--samples 0: it must be at least 1"),
        ({"budget": 0}, "--budget 0: it must be at least 1"),
        ({"predictions": 0}, "--predictions 0: it must be at least 1"),
        ({"strategy": "uniform", "threshold": 0.9}, "--threshold: strategy uniform does not use it; leave it out"),
        ({"strategy": "predicted", "posterior": "beta"}, "--posterior: strategy predicted does not use it"),
        ({"strategy": "adaptive", "predictions": 2}, "--predictions: strategy adaptive does not use it"),
        ({"strategy": "adaptive", "hints": True}, "--hints: strategy adaptive does not use it"),
        ({"cutoff": "papr"}, "unknown cutoff rule 'papr' in --cutoff: did you mean 'paper'"),
        ({"cutoff": "quantile", "cutoff_factor": 2.0}, "--cutoff-factor: cutoff quantile has no factor"),
        ({"threshold": 1.5}, "threshold must lie strictly between 0.5 and 1, got 1.5"),
        ({"posterior": "gamma"}, "posterior must be beta or dirichlet, got 'gamma'"),
        ({"posterior": "dirichlet"}, "a prediction can sharpen the beta posterior alone"),
        ({"cutoff": "median"}, "--cutoff median: bundled comes with no lengths to calibrate by"),
        ({"cutoff_factor": -1.0}, "cutoff setting factor must be a positive number"),
    ],
)
def test_spending_that_does_not_go_together(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        Spending(**given).make(prepare("solve", "bundled", Options(m=4), [Asked("1 + 1").problems(None)]))
    assert said in str(caught.value)


def write_run(path: Path, ratios: list[float] | None) -> Path:
    """A run folder with a model, and a checkpoint that holds ratios of true to foretold lengths."""
    (path / "checkpoint-3").mkdir(parents=True)
    (path / "model").mkdir()
    (path / "model" / "config.json").write_text("{}")
    (path / "config.yaml").write_text("max_completion_length: 50\nmin_solution_length: 4\n")
    state = {} if ratios is None else {"cutoff": {"calibration": {"ratios": ratios}}}
    (path / "checkpoint-3" / "masa_state.json").write_text(json.dumps(state))
    return path


def limit_rule(run: Path, **given: Any) -> tuple[str, float | None]:
    measuring = prepare("solve", str(run), Options(m=4), [Asked("1 + 1").problems(None)])
    strategy = Spending(**given).make(measuring)
    assert strategy.foretelling is not None
    cutoff = strategy.foretelling.cutoff
    assert cutoff is not None
    assert (cutoff.minimum, cutoff.maximum) == (4, 50)
    return cutoff.rule, cutoff.ratio


def test_limits_are_calibrated_by_what_the_run_has_seen(tmp_path: Path) -> None:
    known = write_run(tmp_path / "known", [1.5] * 60)
    assert limit_rule(known) == ("quantile", 1.5)
    assert limit_rule(known, cutoff="median") == ("median", 1.5)
    assert limit_rule(known, cutoff_factor=3.0) == ("paper", 1.0)
    assert limit_rule(write_run(tmp_path / "few", [1.5] * 49)) == ("paper", 1.0)
    assert limit_rule(write_run(tmp_path / "none", None)) == ("paper", 1.0)
    with pytest.raises(UserError, match="no lengths to calibrate by"):
        limit_rule(tmp_path / "few", cutoff="quantile")
    (known / "checkpoint-3" / "masa_state.json").write_text("{")
    assert limit_rule(known) == ("paper", 1.0)


@pytest.mark.parametrize(
    ("last", "rank"),
    [
        ({"pass_rate_problems": 9, "pass_rate_spearman": -0.25}, -0.25),
        ({"pass_rate_problems": 9}, 0.0),  # one value for all
        ({"pass_rate_problems": 0}, 0.75),  # no prediction was looked at: the evaluation before
    ],
)
def test_what_a_run_found_of_its_predictions_is_known(tmp_path: Path, last: dict[str, float], rank: float) -> None:
    run = write_run(tmp_path / "run", None)
    assert foretold_rank(find_model(str(run))) is None
    rows = [{"step": 0, "pass_rate_problems": 9, "pass_rate_spearman": 0.75}, {"step": 3, **last}]
    (run / "evaluations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert foretold_rank(find_model(str(run))) == rank


def test_a_model_without_a_run_has_no_calibration() -> None:
    assert length_calibration(find_model("bundled")) is None
    assert length_calibration(NamedModel("owner/name", "owner/name")) is None
    assert length_calibration(find_model(str(MODEL_PATH))) is None


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (solve, {"data", "n", "m", "data_dir", "output", "allow_unsafe_code"}),
        (serve, {"data", "n", "m", "limit", "data_dir", "output", "allow_unsafe_code"}),
        (evaluate, {"m", "meta_prompt", "max_meta_tokens", "min_length", "allow_unsafe_code"}),
        (app.probe, {"allow_unsafe_code"}),
    ],
)
def test_settings_are_options_of_the_same_names(command: Callable[..., None], without: set[str]) -> None:
    names = set(inspect.signature(command).parameters)
    assert {field.name for field in dataclasses.fields(Options)} - names == without
    if command in (solve, serve):
        assert {field.name for field in dataclasses.fields(Spending)} - names <= {"budget"}
    made = settings_from({"seed": 3, "top_p": 0.5, "host": "x"}, Options, n=2)
    assert made == Options(n=2, seed=3, top_p=0.5)
