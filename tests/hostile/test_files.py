"""Whatever stands in a file that a stranger wrote: it is read, or refused with a UserError, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import CONFIGS, HOSTILE, ROWS, RUN_FILES, SCRIPT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masa.cli.job import assign, read_job
from masa.errors import UserError
from masa.records import Problem
from masa.report import document, write_report
from masa.report.data import RunData, number
from masa.report.page import render
from masa.runs import RunFolder
from masa.tasks.dataset import chat_messages, load_problems
from masa.yaml_values import read_plain_yaml

ANY_BYTES = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [
                *(
                    b"data: ",
                    b"seed: ",
                    b"[",
                    b"]",
                    b"{",
                    b"}",
                    b"\n",
                    b"- ",
                    b"&a ",
                    b"*a",
                    b"<<: ",
                    b"? ",
                    b": ",
                    b'"',
                ),
                *(
                    b"!!int ",
                    b"!!bool ",
                    b"!!float ",
                    b"!!timestamp ",
                    b"2001-99-99",
                    b"0x_",
                    b"0b",
                    b"9" * 400,
                    b".nan",
                ),
                *(b'{"problem": "', b'", "answer": ', b'"prompt": [{"role": "user", "content": ', b"NaN", b"null"),
                *(b"\xff", b"\\ud800"),
            ]
        ),
        max_size=12,
    ).map(b"".join),
)
ONE_FOLDER = settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_plotly", lambda: "")


def read_config(folder: Path, data: bytes) -> None:
    path = folder / "config.yaml"
    path.write_bytes(data)
    with contextlib.suppress(UserError):
        read_job(path, {}, []).as_yaml()


@ONE_FOLDER
@given(data=ANY_BYTES)
def test_any_config(tmp_path: Path, data: bytes) -> None:
    read_config(tmp_path, data)
    with contextlib.suppress(UserError):
        assign({}, data.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("data", CONFIGS.values(), ids=CONFIGS.keys())
def test_each_hostile_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    read_config(tmp_path, data)


@pytest.mark.parametrize(
    "name",
    [
        *("a date that is none", "a number that is none", "tags of wrong types", "a bad timestamp", "a huge integer"),
        *("deep mappings", "a list in itself", "a mapping in itself", "many laughs", "no UTF-8", "tags"),
    ],
)
def test_what_yaml_cannot_say_is_refused_with_the_file_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(CONFIGS[name])
    with pytest.raises(UserError, match=r"config\.yaml is not YAML: ."):
        read_job(path, {}, [])


@pytest.mark.parametrize(
    "setting",
    [
        *("logging_steps: .inf", "save_steps: .inf", "ddp_timeout: 99999999999999999999", "parallelism_config: x"),
        *("accelerator_config: none.json", "deepspeed: x", "problems_per_step: 9" + "9" * 400),
        *("problems_per_step: 1000000000000007", "num_meta_generations: 9" + "9" * 400),
    ],
)
def test_what_other_packages_cannot_use_is_refused(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"data: bundled\npreset: masa\nnum_generations: 4\nproblems_per_step: 2\n{setting}\n")
    with pytest.raises(UserError):
        read_job(path, {}, []).as_yaml()


@pytest.mark.parametrize("value", ["1", "true", "[1]"])
def test_no_number_is_taken_for_an_open_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"data: bundled\naccelerator_config: {value}\n")
    with pytest.raises(UserError, match=r"accelerator_config is .*: it must be a mapping or a text or null"):
        read_job(path, {}, [])


def test_brackets_that_open_for_ever_take_no_time() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="nested too deeply"):
        read_plain_yaml("[" * 1_000_000)
    assert time.process_time() - began < 0.5


def test_aliases_and_depth_that_people_use_are_read() -> None:
    assert read_plain_yaml("a: &x [1, {b: c}]\nd: *x\n") == {"a": [1, {"b": "c"}], "d": [1, {"b": "c"}]}
    assert read_plain_yaml(b"") is None


def test_a_setting_on_the_command_line_may_be_any_text() -> None:
    values: dict[str, Any] = {}
    for text in ("2001-99-99", "!!int x", "{a: " * 3000, "\ud800"):
        assign(values, f"key={text}")
        assert values["key"] == text


def read_rows(folder: Path, data: bytes) -> None:
    for name in ("rows.jsonl", "rows.json", "rows.jsonl.gz"):
        for content in {data, gzip.compress(data)} if name.endswith("gz") else {data}:
            (folder / name).write_bytes(content)
            for on_error in ("raise", "skip"):
                with contextlib.suppress(UserError):
                    for problem in load_problems(folder / name, on_error=on_error).problems:  # type: ignore[arg-type]
                        chat_messages(problem, system="Think.")


@ONE_FOLDER
@given(data=ANY_BYTES)
def test_any_rows(tmp_path: Path, data: bytes) -> None:
    read_rows(tmp_path, data)


@pytest.mark.parametrize("data", ROWS.values(), ids=ROWS.keys())
def test_each_hostile_row(tmp_path: Path, data: bytes) -> None:
    read_rows(tmp_path, data)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("messages without roles", "a message needs 'role' and 'content'"),
        ("a message after the user's", "must be text only"),
        ("a prompt beside the problem", "a message needs 'role' and 'content'"),
    ],
)
def test_messages_that_no_solver_could_be_asked_with_are_faulty_rows(tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS[name])
    with pytest.raises(UserError, match=rf"line 1: field 'prompt': .*{why}"):
        load_problems(path)


def test_messages_of_a_problem_made_by_hand_are_checked_too() -> None:
    with pytest.raises(UserError, match="problem 3: field 'prompt'"):
        chat_messages(Problem(3, "x", "y", extra={"prompt": [{"content": "x"}]}))


def write_run(folder: Path, data: bytes) -> None:
    rollouts, metrics, evaluations, ledger, config, *_ = [*data.split(b"\n---\n"), b"", b"", b"", b"", b""]
    (folder / "rollouts").mkdir(exist_ok=True)
    (folder / "rollouts" / "step-1.jsonl.gz").write_bytes(gzip.compress(rollouts))
    (folder / "metrics.jsonl").write_bytes(metrics)
    (folder / "evaluations.jsonl").write_bytes(evaluations)
    (folder / "ledger.json").write_bytes(ledger or b"{}")
    (folder / "config.yaml").write_bytes(config or b"{}")


@pytest.mark.parametrize("data", RUN_FILES.values(), ids=RUN_FILES.keys())
def test_each_hostile_run_folder(tmp_path: Path, data: bytes) -> None:
    write_run(tmp_path, data)
    with contextlib.suppress(UserError):
        write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize("ledger", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_ledger_is_named(tmp_path: Path, ledger: bytes) -> None:
    write_run(tmp_path, b"\n---\n\n---\n\n---\n" + ledger)
    with pytest.raises(UserError, match=r"ledger\.json: "):
        RunFolder.open(tmp_path).read_ledger()


@pytest.mark.parametrize(
    "damage", [lambda data: b"\x1f\x8b" + data, lambda data: data[:20] + b"x" * 20, lambda data: b""]
)
def test_damaged_rollouts_are_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    write_run(tmp_path, b'{"role": "solution"}\n' * 100)
    path = tmp_path / "rollouts" / "step-1.jsonl.gz"
    path.write_bytes(damage(path.read_bytes()) or b"\x1f\x8b\x08\x00" + b"\xff" * 40)
    with pytest.raises(UserError, match=r"step-1\.jsonl\.gz: not a whole gzip file"):
        write_report(tmp_path)


def test_an_integer_beyond_all_floats_is_no_number() -> None:
    assert number(10**400) is None


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.one_of(st.sampled_from([*HOSTILE.values(), SCRIPT]), st.text(st.characters(), max_size=60)))
def test_any_text_in_a_report_is_text(text: str) -> None:
    common: dict[str, Any] = {"step": 1, "problem": text, "task": text, "problem_text": text}
    rows = [
        {**common, "role": "solution", "text": text, "correct": True, "finish_reason": text},
        {**common, "role": "meta", "text": text, "prediction": {"pass_rate": 0.5, "notions": [text]}},
    ]
    evaluations = [{"step": step, "pass_at_1": 0.5, "by_task": {f"{text}/1": 0.5}} for step in (0, 1)]
    metrics = [{"step": 1, "phase": text}]
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(name)
        folder.write_rollouts(1, rows)
        page = render(RunData(text, {text: text}, {text: text}, metrics, evaluations, {}, rows, [], folder))
    body = page[: page.index('<script type="application/json"')]
    assert "<script" not in body
    assert "<img" not in body
