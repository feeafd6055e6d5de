"""`masa eval` and `masa probe MODEL` as a user runs them, on the bundled model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from masa.cli import main
from masa.evaluation import answers
from masa.grading import sandbox
from masa.runs.jsonlines import read_gzipped_rows
from masa.tiny import MODEL_PATH

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def masa(monkeypatch: pytest.MonkeyPatch, capsys: Capture, *arguments: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["masa", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as exit:
        code = int(exit.code or 0)
    return code, *capsys.readouterr()


def test_eval_writes_every_answer_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(answers, "_CHUNK_ROLLOUTS", 8)
    command = ("eval", "bundled", "--limit", 6, "--n", 4, "--k", "1,4", "--json")
    code, out, err = masa(monkeypatch, capsys, *command)
    assert code == 0, err
    found = json.loads(out)
    assert out.count("\n") == 1
    (one,) = found["sets"]
    assert (one["name"], one["problems"], one["n"]) == ("held out", 6, 4)
    assert set(one["pass_at_k"]) == {"1", "4"}
    assert one["pass_at_k"]["1"] == one["mean_at_n"]
    assert sum(one["finish_reasons"].values()) == 24
    folder = tmp_path / "runs" / "eval-bundled-held-out"
    assert found["folder"] == str(Path("runs") / "eval-bundled-held-out")
    assert json.loads((folder / "result.json").read_text()) == found
    chunks = sorted((folder / "answers").iterdir())
    assert len(chunks) == 3
    # One chunk lost: it alone is made again, and nothing changes.
    before = [chunk.read_bytes() for chunk in chunks]
    chunks[1].unlink()
    code, again, err = masa(monkeypatch, capsys, *command)
    assert (code, again) == (0, out)
    assert [chunk.read_bytes() for chunk in chunks] == before
    assert err.count("already there") == 2
    # The same answers serve other k and the table.
    code, table, _ = masa(monkeypatch, capsys, *command[:-2], "1,2")
    assert code == 0
    assert "pass@2" in table
    assert "maj@4" in table
    code, _, err = masa(monkeypatch, capsys, "eval", "bundled", "--limit", 6, "--n", 4, "--seed", 1)
    assert code == 2
    assert "holds an evaluation with other settings (seed: 0 there, 1 now)" in err


def test_greedy_is_one_answer_and_sets_have_an_average(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    data = "bundled,reasoning_gym:gcd"
    code, out, err = masa(
        monkeypatch, capsys, "eval", "bundled", "--data", data, "--limit", 3, "--greedy", "--json", "--output", "greedy"
    )
    assert code == 0, err
    found = json.loads(out)
    assert (found["settings"]["temperature"], found["settings"]["n"]) == (0.0, 1)
    assert [one["name"] for one in found["sets"]] == data.split(",")
    assert found["sets"][0]["spread"] is None
    means = [one["mean_at_n"]["value"] for one in found["sets"]]
    assert found["average"]["mean_at_n"]["value"] == pytest.approx(sum(means) / 2)


def test_an_adaptive_policy_is_graded_by_its_one_answer(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    data = ("--data", "bundled,reasoning_gym:gcd", "--limit", 4, "--max-tokens", 64)
    command = ("eval", "bundled", *data, "--policy", "adaptive", "--n", 6, "--predictions", 2, "--budget", 2400)
    code, out, err = masa(monkeypatch, capsys, *command, "--json")
    assert code == 0, err
    found = json.loads(out)
    folder = Path(found["folder"])
    assert folder == Path("runs/eval-adaptive-bundled-bundled-reasoning_gym-gcd")
    assert found["settings"]["budget"] == 2400
    assert (found["settings"]["strategy"], found["settings"]["samples"], found["settings"]["m"]) == ("both", 6, 2)
    for one in found["sets"]:
        (path,) = (folder / "answers").glob(f"{one['name'].replace(':', '-')}-*")
        rows = read_gzipped_rows(path)
        assert sum(row["solution_tokens"] + row["meta_tokens"] for row in rows) == one["tokens"] <= 1200
        assert one["accuracy"]["value"] == sum(row["correct"] for row in rows) / 4
        assert all(row["samples"] <= 6 and row["meta_tokens"] > 0 for row in rows)
        assert sum(one["stopped"].values()) == 4
    code, table, err = masa(monkeypatch, capsys, *command)  # goes on with what is there
    assert code == 0
    assert err.count("already there") == 2
    assert f"{found['tokens']:,} tokens generated of 2,400" in table
    code, _, err = masa(monkeypatch, capsys, *command, "--strategy", "predicted")
    assert code == 2
    assert "holds an evaluation with other settings" in err


def test_a_uniform_vote_draws_and_says_what_plain_answers_do(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    data = ("eval", "bundled", "--limit", 12, "--n", 5, "--json")
    plain = json.loads(masa(monkeypatch, capsys, *data)[1])["sets"][0]
    voted = json.loads(masa(monkeypatch, capsys, *data, "--policy", "adaptive", "--strategy", "uniform")[1])["sets"][0]
    assert voted["tokens"] == plain["tokens"]
    assert (voted["samples_a_problem"], voted["meta_tokens"], voted["stopped"]) == (5, 0, {"samples": 12})
    # Of tied answers plain's figure is the mean, a vote's is that of the first.
    assert voted["accuracy"]["value"] == pytest.approx(plain["majority_at_n"]["value"], abs=2 / 12)


def test_probe_foretells_and_measures(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    command = ("probe", "bundled", "--limit", 6, "--n", 4, "--m", 2, "--output", "probe")
    code, out, err = masa(monkeypatch, capsys, *command, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["problems"], found["solutions"], found["predictions"]) == (6, 4, 2)
    assert found["settings"]["meta_prompt"] == "brief"
    assert found["foresight"]["valid_share"] > 0.5
    assert len(found["foresight"]["points"]) == 6
    assert found["savings"]["meta_tokens"] > 0
    assert Path("probe/report.html").stat().st_size > 100_000
    code, out, err = masa(monkeypatch, capsys, *command)
    assert code == 0
    assert "already there" in err
    assert found["advice"] in " ".join(out.split())
    assert "every answer and the page: probe/report.html" in out


def test_a_base_model_reads_plain_text(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    shutil.copytree(MODEL_PATH, tmp_path / "base", ignore=shutil.ignore_patterns("*.jinja"))
    command = ("probe", "base", "--data", "bundled", "--limit", 2, "--n", 2, "--m", 1, "--max-tokens", 32, "--json")
    code, out, err = masa(monkeypatch, capsys, *command, "--min-length", 8, "--meta-prompt", "brief")
    assert code == 0, err
    assert json.loads(out)["settings"]["max_meta_tokens"] == 32
    code, _, err = masa(monkeypatch, capsys, *command, "--system", "Be brief.", "--output", "other")
    assert code == 2
    assert "model base has no chat template, so no system message: put it into --prompt" in err


def test_code_that_cannot_be_isolated_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path
) -> None:
    monkeypatch.setattr(sandbox, "_fault", lambda: "bubblewrap (bwrap) is not installed")
    row = {"problem": "Add one.", "answer": "x", "tests": ["assert f(1) == 2"], "kind": "code"}
    (tmp_path / "code.jsonl").write_text(json.dumps(row) + "\n")
    command = ("eval", "bundled", "--data", "code.jsonl", "--n", 1, "--max-tokens", 4, "--output", "out")
    code, _, err = masa(monkeypatch, capsys, *command)
    assert code == 2
    assert "apt-get install bubblewrap" in err
    assert not Path("out").exists()
    assert masa(monkeypatch, capsys, *command, "--unsafe-code-execution")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval", "bundled", "--greedy", "--n", 4], "--greedy gives one answer at temperature 0"),
        (["eval", "bundled", "--n", 4, "--k", "8"], "--k 8: pass@k needs 1 <= k <= n, and n is 4"),
        (["eval", "bundled", "--policy", "adptive"], "unknown policy 'adptive' in --policy: did you mean 'adaptive'"),
        (["eval", "bundled", "--budget", 100], "--budget belongs to --policy adaptive"),
        (["eval", "bundled", "--policy", "adaptive", "--k", "1"], "of which there is no pass@k"),
        (["eval", "bundled", "--policy", "adaptive", "--greedy"], "--greedy gives one answer, which is no vote"),
        (["eval", "bundled", "--policy", "adaptive", "--temperature", 0], "gives the same answer each time"),
        (["eval", "bundled", "--policy", "adaptive", "--strategy", "bth"], "unknown strategy 'bth'"),
        (
            ["eval", "bundled", "--data", "bundled,reasoning_gym:gcd", "--policy", "adaptive", "--budget", 1],
            "--budget 1 leaves not one token for bundled: raise it",
        ),
        (["eval", "bundled", "--k", "one"], "--k one: write whole numbers joined by commas"),
        (["eval", "nothing/here/at/all", "--data", "bundled"], "model nothing/here/at/all does not exist"),
        (["eval", "bundled", "--data", "gsm9k.jsonl"], "gsm9k.jsonl"),
        (["eval", "bundled", "--data", "aime23"], "unknown data set 'aime23': did you mean 'aime"),
        (["eval", "bundled", "--data", "nothing"], "(masa data list), or a file, or a Hub id"),
        (["eval", "bundled", "--limit", 2, "--max-tokens", 100_000], "give a lower --max-tokens"),
        (["eval", "bundled", "--data", "bundled", "--data-dir", "nowhere", "--prompt", "?"], "must contain {problem}"),
        (["probe", "bundled", "--n", 1], "--n 1: a pass rate needs at least 2 solutions"),
        (["probe", "bundled", "--m", 0], "--m 0: a probe needs at least 1 prediction"),
        (["probe", "bundled", "--meta-prompt", "breif"], "did you mean 'brief'"),
        (["probe", "bundled", "--meta-prompt", "{problm}"], "--meta-prompt: unknown placeholder"),
        (["probe", "bundled", "--min-length", 500], "least foretold length 500 exceeds the limit of 192 tokens"),
        (["probe", "bundled", "--rollouts", "log.jsonl"], "give one"),
        (["probe"], "give one"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[Any], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    code, out, err = masa(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
