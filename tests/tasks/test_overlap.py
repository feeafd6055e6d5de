"""Contamination between two sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from masa.cli.app import app
from masa.tasks.overlap import find_overlap, normalise

DATA = Path(__file__).parents[3] / "shared" / "data"
LONG = "A farmer has seven fields of wheat and nine of rye, and in each of the fields there stand three scarecrows."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"Find $\dfrac{1}{2}$ of  $x$.", r"find \frac12 of x"),
        (r"$\left( a \right)$", "(a)"),
        ("Is 1 \u2212 2 negative?", "is 1 - 2 negative"),
        (r"\text{Let} $n$ be", "Let n be"),
    ],
)
def test_looks_do_not_matter(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), [("x+1", "x-1"), ("2x < 3", "2x > 3"), ("12", "1.2x"), ("x_1", "x^1")])
def test_what_differs_stays_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_equal_near_and_unrelated() -> None:
    near = LONG.replace("seven", "eight") + " How many are there?"
    unrelated = (
        "Two trains leave the city at noon and travel towards each other at ninety miles an hour until they meet."
    )
    matches = find_overlap([unrelated, LONG.upper(), near, "x"], ["y", LONG])
    assert [(match.first, match.second, match.exact) for match in matches] == [(1, 1, True), (2, 1, False)]
    assert matches[0].share == 1.0
    assert 0.5 <= matches[1].share < 1.0
    assert find_overlap([], [LONG]) == find_overlap([LONG], []) == []


@pytest.mark.skipif(not (DATA / "deepscaler").is_dir(), reason=f"data of other people is not here ({DATA})")
def test_the_aime_problems_in_math500_are_found() -> None:
    arguments = [
        "data",
        "overlap",
        str(DATA / "deepscaler" / "train_aime_part.jsonl"),
        "math500",
        "--data-dir",
        str(DATA),
    ]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (found["first"], found["second"]) == (975, 500)
    assert (found["exact"], found["near"]) == (5, 3)
    exact = {pair["first"] for pair in found["matches"] if pair["exact"]}
    assert exact == {"aime_1983_1_2", "aime_2001_2_3", "aime_2010_1_6", "aime_2015_2_6", "aime_2017_2_7"}
    assert "5 of 975 problems stand in math500" in CliRunner().invoke(app, arguments).stdout
