"""What the fuzzer calls: one function a target, each taking bytes and raising only on a fault of ours."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Target = Callable[[bytes], None]

_REPEATED, _ONE_IN = 20_000, 500
"""Characters that one input in so many is repeated to: time that is not linear shows there. Which one depends on all
its bytes: if a byte of its own decided, the fuzzer would find that long inputs count as new and try nothing else."""


def text_of(data: bytes) -> str:
    """Any bytes as a text; those that are no UTF-8 become lone surrogates."""
    text = data[1:].decode("utf-8", "surrogateescape")
    if text and zlib.crc32(data) % _ONE_IN == 0:
        text = (text * (_REPEATED // len(text) + 1))[:_REPEATED]
    return text


def prediction() -> Target:
    """The prediction parser: a prediction is what it says it is, whatever the text."""
    from masa.awareness import find_prediction, parse_prediction

    def call(data: bytes) -> None:
        text = text_of(data)
        found = find_prediction(text)
        said = parse_prediction(text, max_length=4096, min_length=2)
        assert said.pass_rate is None or 0 <= said.pass_rate <= 1
        assert said.length is None or 2 <= said.length <= 4096
        assert found is None or text[found.start] + text[found.end - 1] == "{}"
        for notion in said.notions or ():
            notion.encode("utf-8")

    return call


def answers() -> Target:
    """Extraction: what is found stands in the text, but for the commas between boxes."""
    from masa.grading.answers import extract_final_answer

    def call(data: bytes) -> None:
        text = text_of(data)
        found = extract_final_answer(text)
        assert found is None or (found and all(part in text for part in found.split(", ")))

    return call


def choice() -> Target:
    """Multiple choice; a line break parts the options from the text."""
    from masa.grading import ChoiceSettings, grade

    def call(data: bytes) -> None:
        text = text_of(data)
        first, _, rest = text.partition("\n")
        grade(text, "B", kind="choice")
        grade(rest, first, kind="choice", settings=ChoiceSettings(options=("yes", first, "no")))

    return call


def literal() -> Target:
    """Literals; a line break parts the gold answer from the text."""
    from masa.grading import grade

    def call(data: bytes) -> None:
        text = text_of(data)
        first, _, rest = text.partition("\n")
        grade(text, "[1, 2]", kind="literal")
        grade(rest, first, kind="literal")

    return call


def mathematics() -> Target:
    """The part of the comparison that needs no other process; a line break parts gold and answer."""
    from masa.grading import MathSettings, math_text
    from masa.grading.math_rules import quick

    kinds = (
        MathSettings(),
        MathSettings(relative_tolerance=0.01, absolute_tolerance=1e-9),
        MathSettings(unit="10^{3} km"),
    )

    def call(data: bytes) -> None:
        text = text_of(data)
        first, _, rest = text.partition("\n")
        for settings in kinds:
            quick(text, "12", settings)
            quick(rest, first, settings)
        math_text.number_with_unit(text, "10^{3} km")
        math_text.number_with_unit(rest, first)
        math_text.unit_power(first)
        if len(text) <= math_text.MAX_LENGTH:  # longer answers are refused before these
            math_text.plain(text)
            math_text.parts(text)
            math_text.without_name(first, rest)

    return call


def config() -> Target:
    """A config file: a job, or the user's own mistake told in a UserError."""
    from masa.cli.job import assign, read_job
    from masa.errors import UserError

    os.chdir(_place())  # settings may name files
    path = Path("config.yaml")
    read_job(None, {}, [])  # the first one imports a lot, which is not to be held against an input

    def call(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_job(path, {}, []).as_yaml()
        except UserError as error:
            str(error).encode("utf-8", "surrogatepass")
        with contextlib.suppress(UserError):
            assign({}, text_of(data))

    return call


def dataset() -> Target:
    """A file of rows; its first byte chooses the ending, a gzipped file among them."""
    from masa.errors import UserError
    from masa.tasks.dataset import chat_messages, load_problems

    place = _place()

    def call(data: bytes) -> None:
        ending = (".jsonl", ".json", ".jsonl.gz", ".jsonl")[data[0] % 4] if data else ".jsonl"
        path = place / f"rows{ending}"
        path.write_bytes(gzip.compress(data[1:], 1) if ending.endswith("gz") and data[0] < 128 else data[1:])
        for on_error in ("raise", "skip"):
            with contextlib.suppress(UserError):
                for problem in load_problems(path, on_error=on_error).problems:  # type: ignore[arg-type]
                    chat_messages(problem, system="Think.")

    return call


def report() -> Target:
    """A run folder's files, parted by lines of three dashes: rollouts, metrics, evaluations, ledger, settings."""
    import masa.report.document as document
    from masa.errors import UserError
    from masa.report import write_report

    # Four megabytes of a library that no input reaches would take most of the time.
    document._plotly = lambda: ""
    place = _place()
    (place / "rollouts").mkdir(exist_ok=True)

    def call(data: bytes) -> None:
        rollouts, metrics, evaluations, ledger, settings, *_ = [*data.split(b"\n---\n"), b"", b"", b"", b"", b""]
        (place / "rollouts" / "step-1.jsonl.gz").write_bytes(gzip.compress(rollouts, 1))
        (place / "metrics.jsonl").write_bytes(metrics)
        (place / "evaluations.jsonl").write_bytes(evaluations)
        (place / "ledger.json").write_bytes(ledger or b"{}")
        (place / "config.yaml").write_bytes(settings or b"{}")
        try:
            page = write_report(place).read_text(encoding="utf-8")
        except UserError:
            return
        body = page[: page.index('<script type="application/json"')]
        assert "<script" not in body
        assert "<img" not in body

    return call


def rollouts() -> Target:
    """One text in every place that a rollout and a chart show one."""
    import masa.report.document as document
    from masa.report.data import RunData
    from masa.report.page import render
    from masa.runs import RunFolder

    document._plotly = lambda: ""

    def call(data: bytes) -> None:
        text = text_of(data)
        common: dict[str, Any] = {"step": 1, "problem": text, "task": text, "problem_text": text, "gated": True}
        rows = [
            {**common, "role": "solution", "text": text, "correct": True, "finish_reason": text, "length": 3},
            {**common, "role": "meta", "text": text, "prediction": {"pass_rate": 0.5, "length": 3, "notions": [text]}},
        ]
        evaluations = [{"step": step, "pass_at_1": 0.5, "by_task": {f"{text}/1": 0.5, text: 1}} for step in (0, 1)]
        metrics = [{"step": 1, "pass_rate": 0.5, "phase": text, text: 1}]
        with tempfile.TemporaryDirectory() as name:
            folder = RunFolder(name)
            folder.write_rollouts(1, rows)
            page = render(RunData(text, {text: text}, {text: text}, metrics, evaluations, {text: 1}, rows, [], folder))
        body = page[: page.index('<script type="application/json"')]
        assert "<script" not in body
        assert "<img" not in body
        start = page.index(">", page.index('<script type="application/json"')) + 1
        json.loads(page[start : page.index("</script>", start)])

    return call


TARGETS: dict[str, Callable[[], Target]] = {
    "prediction": prediction,
    "answers": answers,
    "choice": choice,
    "literal": literal,
    "mathematics": mathematics,
    "config": config,
    "dataset": dataset,
    "report": report,
    "rollouts": rollouts,
}


def _place() -> Path:
    # In memory where there is such a folder: a fuzzer writes thousands of files a second.
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="masa-fuzz-", dir=memory if memory.is_dir() else None))
