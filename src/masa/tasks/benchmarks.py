"""The benchmarks by name: where each comes from, how it is asked, how it is graded, and what to look out for.

A file in a folder (`data_dir`, or the variable `MASA_DATA`) wins over the Hub: `<folder>/<name>/<split>.jsonl`, rows in
the common form of `masa.tasks.benchmark_rows`.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from masa.errors import UserError, unknown_key_message
from masa.records import Problem
from masa.tasks import benchmark_prompts as prompts
from masa.tasks import benchmark_rows as forms
from masa.tasks.dataset import ProblemSet
from masa.tasks.sources import PlacedRow, read_file

DATA_VARIABLE = "MASA_DATA"
_LOGIC = "https://raw.githubusercontent.com/teacherpeterpan/Logic-LLM/d29f1e5e7203e8826cb9c41ba3003e43dc0b9d34/data"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One set of problems."""

    name: str
    group: str
    """`mathematics`, `logic`, `science`, `coding` or `training`."""
    kind: str
    """Which grader decides; its settings come with each row."""
    rows: int
    """How many there should be in the published set."""
    source: str
    """A Hub id, or the address of the official file."""
    split: str
    """Of the source."""
    files: tuple[str, ...]
    """Where it may lie in a folder, without ending, best first."""
    licence: str
    ask: Callable[[Mapping[str, Any]], prompts.Asked]
    config: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Common names to the source's, where no more is to be done."""
    read: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """Otherwise: a row of the source to the common form."""
    quirks: tuple[str, ...] = ()
    test_rows: int = 0
    """Of a training set: rows of its test split, which is what a model is measured on; 0 without one."""
    secret: bool = False
    """Whether its authors ask that no row is shown in plain text."""


_MATH_KEPT = {"problem": "problem", "answer": "answer"}
_QUESTION = {"problem": "question", "answer": "answer"}
_EVALPLUS = "https://github.com/evalplus/evalplus (releases)"

_ENTRIES = (
    Benchmark("aime24", "mathematics", "math", 30, "HuggingFaceH4/aime_2024", "train", ("aime24/test",),
              "problems (c) MAA", prompts.mathematics, columns=_MATH_KEPT,
              quirks=("answers are integers with leading zeros: '025' is 25",)),
    Benchmark("aime25", "mathematics", "math", 30, "math-ai/aime25", "test", ("aime25/test",), "problems (c) MAA",
              prompts.mathematics, columns=_MATH_KEPT, quirks=("both papers, I and II, in one set",)),
    Benchmark("amc23", "mathematics", "math", 40, "math-ai/amc23", "test", ("amc23/test",), "problems (c) MAA",
              prompts.mathematics, columns=_QUESTION, quirks=("some copies hold the answer as a float: 27.0 is 27",)),
    Benchmark("math500", "mathematics", "math", 500, "HuggingFaceH4/MATH-500", "test", ("math500/test",), "MIT",
              prompts.mathematics, columns={**_MATH_KEPT, "id": "unique_id"},
              quirks=("a part of MATH test: never count both",)),
    Benchmark("minerva_math", "mathematics", "math", 272, "math-ai/minervamath", "test",
              ("minerva_math/test", "minerva/test"), "MIT OpenCourseWare, CC BY-NC-SA 4.0", prompts.mathematics,
              columns=_QUESTION, quirks=("answers may be in scientific notation",)),
    Benchmark("olympiadbench", "mathematics", "math", 674, "Hothan/OlympiadBench", "train", ("olympiadbench/test",),
              "MIT", prompts.olympiad, config="OE_TO_maths_en_COMP", read=forms.olympiadbench,
              quirks=("several answers in any order", "the unit is not part of the answer",
                      "`error` is an absolute tolerance", "675 rows in some copies")),
    Benchmark("prontoqa", "logic", "choice", 500, f"{_LOGIC}/ProntoQA/dev.json", "train", ("prontoqa/dev",),
              "MIT (Logic-LLM); Apache-2.0", prompts.choice, read=forms.logic,
              quirks=("2 options with labels of their own",)),
    Benchmark("proofwriter", "logic", "choice", 600, f"{_LOGIC}/ProofWriter/test.json", "train",
              ("proofwriter/test", "proofwriter/dev"), "MIT (Logic-LLM); CC BY", prompts.choice, read=forms.logic,
              quirks=("open world: C is 'unknown'",)),
    Benchmark("folio", "logic", "choice", 204, f"{_LOGIC}/FOLIO/dev.json", "train", ("folio/dev",),
              "MIT (Logic-LLM); CC BY-SA 4.0", prompts.choice, read=forms.logic,
              quirks=("v0.0; the later version (203 rows) corrects some labels",)),
    Benchmark("logical_deduction", "logic", "choice", 300, f"{_LOGIC}/LogicalDeduction/dev.json", "train",
              ("logical_deduction/dev",), "MIT (Logic-LLM); Apache-2.0 (BIG-bench)", prompts.choice, read=forms.logic,
              quirks=("3, 5 or 7 options: letters run to G",)),
    Benchmark("ar_lsat", "logic", "choice", 230, f"{_LOGIC}/AR-LSAT/test.json", "train",
              ("ar_lsat/test", "ar_lsat/dev"), "MIT (Logic-LLM); questions (c) LSAC", prompts.choice, read=forms.logic,
              quirks=("5 options",)),
    Benchmark("gpqa_diamond", "science", "choice", 198, "Idavidrein/gpqa", "train", ("gpqa_diamond/gpqa_diamond",
              "gpqa_diamond/test", "gpqa_diamond"), "CC BY 4.0", prompts.choice, config="gpqa_diamond",
              quirks=("gated; its authors ask that no row is shown", "options in an order drawn from seed and row"),
              secret=True),
    Benchmark("rbench", "science", "choice", 1094, "R-Bench/R-Bench", "test", ("rbench/test",), "see the Hub page",
              prompts.choice, config="rbench-t_en", read=forms.rbench, quirks=("6 options",)),
    Benchmark("arc_challenge", "science", "choice", 1172, "allenai/ai2_arc", "test", ("arc_challenge/test",),
              "CC BY-SA 4.0", prompts.choice, config="ARC-Challenge", read=forms.arc,
              quirks=("3 to 5 options", "some labels are 1 to 4: they become letters")),
    Benchmark("scibench", "science", "math", 580, "xw27/scibench", "train", ("scibench/test",), "MIT", prompts.science,
              read=forms.scibench,
              quirks=("5 % tolerance", "a power of ten may stand in the unit", "signs, commas and U+2212 in answers",
                      "the Hub's 692 rows hold the 112 worked examples of the official prompts too")),
    Benchmark("humaneval", "coding", "code", 164, "openai/openai_humaneval", "test", ("humaneval/test",), "MIT",
              prompts.completion, columns={"id": "task_id", "problem": "prompt", "answer": "canonical_solution",
                                           "tests": "test"}, quirks=("the base set, not EvalPlus",)),
    Benchmark("humaneval_plus", "coding", "code", 164, "evalplus/humanevalplus", "test", ("humaneval_plus/test",),
              "Apache-2.0", prompts.completion, read=forms.humaneval_plus,
              quirks=("half of EvalPlus", "its tests want numpy.allclose, which is put in their place")),
    Benchmark("mbpp_plus", "coding", "code", 378, "evalplus/mbppplus", "test",
              ("mbpp_plus/test", "mbpp_plus/prerelease_2023_11"), "Apache-2.0", prompts.program, read=forms.mbpp_plus,
              quirks=("half of EvalPlus", f"the file of the repository's history has 399 rows: {_EVALPLUS}",
                      "there, tuples and sets among the inputs have become lists")),
    Benchmark("mbpp", "coding", "code", 500, "google-research-datasets/mbpp", "test", ("mbpp/test",), "CC BY 4.0",
              prompts.program, config="full", read=forms.mbpp,
              quirks=("the text does not name the function: tests are shown", "set-up code before some tests",
                      "\\r\\n line ends")),
    Benchmark("cruxeval_o", "coding", "literal", 800, "cruxeval-org/cruxeval", "test",
              ("cruxeval/test", "cruxeval_o/test"), "MIT", prompts.output,
              columns={"problem": "code", "answer": "output"},
              quirks=("values compare, not texts: quotes and spacing are free",)),
    Benchmark("livecodebench", "coding", "code", 400,
              "hf://datasets/livecodebench/code_generation_lite/test.jsonl", "train", ("livecodebench/test",),
              "see the Hub page", prompts.contest, read=forms.livecodebench,
              quirks=("release 1; later ones add files test2 to test6", "private cases are packed",
                      "a third asks for a method of a class")),
    Benchmark("gsm8k", "training", "math", 7473, "openai/gsm8k", "train", ("gsm8k/train",), "MIT", prompts.mathematics,
              config="main", read=forms.gsm8k, test_rows=1319, quirks=("the answer follows ####", "thousands commas")),
    Benchmark("math", "training", "math", 7500, "DigitalLearningGmbH/MATH-lighteval", "train", ("math/train",), "MIT",
              prompts.mathematics, read=forms.math, test_rows=5000,
              quirks=("2 solutions end in an empty box: their rows are left out",)),
    Benchmark("deepscaler", "training", "math", 40315, "agentica-org/DeepScaleR-Preview-Dataset", "train",
              ("deepscaler/train", "deepscaler/train_dsr_sub"), "MIT; AIME problems (c) MAA", prompts.mathematics,
              columns=_MATH_KEPT, quirks=("holds problems of MATH test and MATH500: see `masa data overlap`",
                                          "some answers are empty or null: their rows are left out")),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {entry.name: entry for entry in _ENTRIES}
"""Every benchmark, by name."""

_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv")


def find_benchmark(name: str) -> Benchmark:
    """The entry of a name.

    Raises:
        UserError: for an unknown name, with the nearest.
    """
    if name not in BENCHMARKS:
        raise UserError(unknown_key_message("benchmark", name, BENCHMARKS) + " (masa data list)")
    return BENCHMARKS[name]


def local_file(benchmark: Benchmark, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """The benchmark's file in the folder, or None.

    Raises:
        UserError: if the folder does not exist.
    """
    folder = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"data folder {root} does not exist: check --data-dir or {DATA_VARIABLE}")
    candidates = (root / f"{file}{ending}" for file in benchmark.files for ending in _ENDINGS)
    return next((path for path in candidates if path.is_file()), None)


def test_split(benchmark: Benchmark) -> Benchmark:
    """What a model is measured on: of a training set its test split, if it has one; else the benchmark itself."""
    if not benchmark.test_rows:
        return benchmark
    files = tuple(file.replace("/train", "/test") for file in benchmark.files)
    return replace(benchmark, rows=benchmark.test_rows, split="test", files=files)


def load_benchmark(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    is_test: bool = False,
) -> ProblemSet:
    """The problems of a benchmark, with their prompts, answers and what their grader needs.

    Args:
        data_dir: folder whose files win over the Hub; default: the variable `MASA_DATA`.
        limit: the first so many.
        seed: of the order of options, where the set has none.
        is_test: of a training set, its test split.

    Raises:
        UserError: for an unknown name, a faulty row, or a set that cannot be had (with where it comes from).
    """
    benchmark = test_split(find_benchmark(name)) if is_test else find_benchmark(name)
    path = local_file(benchmark, data_dir)
    source = str(path) if path is not None else benchmark.source
    problems: list[Problem] = []
    complaints: list[str] = []
    placed = _local_rows(benchmark, path, seed) if path is not None else _published_rows(benchmark, seed)
    for place, row in placed:
        made = _problem(benchmark, len(problems), place, row)
        if isinstance(made, str):
            complaints.append(made)
        else:
            problems.append(made)
        if len(problems) == limit:
            break
    if not problems:
        raise UserError(f"benchmark {name!r}: {complaints[0] if complaints else f'{source} is empty'}")
    return ProblemSet(tuple(problems), skipped=len(complaints), complaints=tuple(complaints), source=source)


def _problem(benchmark: Benchmark, key: int, place: str, row: Mapping[str, Any] | str) -> Problem | str:
    """The problem of a row, or why there is none; never with the row's text, which may be secret."""
    if isinstance(row, str):
        return f"{place}: {row}"
    answer = row.get("answer")
    if answer is None or not str(answer).strip():
        return f"{place}: no answer"
    if not str(row.get("problem") or "").strip():
        return f"{place}: no problem"
    try:
        text, extra = benchmark.ask(row)
    except KeyError as error:
        return f"{place}: field {error} is missing"
    kept = {"id": str(row.get("id", key)), **extra}
    # The indentation of a program that goes on from its prompt is a part of it.
    bare = str(answer) if benchmark.kind == "code" else str(answer).strip()
    return Problem(key, text, bare, benchmark.kind, benchmark.name, kept)


def _local_rows(benchmark: Benchmark, path: Path, seed: int) -> Iterator[PlacedRow]:
    if path.suffix == ".csv":
        rows: Iterator[PlacedRow] = _csv(path)
    else:
        rows = iter(read_file(path))
    for number, (place, row) in enumerate(rows):
        if isinstance(row, str) or ("problem" in row and "plus_input" not in row):
            yield place, row
        else:
            yield place, _common(benchmark, row, number, seed)


def _csv(path: Path) -> Iterator[PlacedRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=1):
            yield f"{path}, row {number}", row


def _published_rows(benchmark: Benchmark, seed: int) -> Iterator[PlacedRow]:
    try:
        loaded = _fetched(benchmark)
    except Exception as error:  # errors of many libraries, all of them about this source
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"benchmark {benchmark.name!r} cannot be had: it comes from {benchmark.source} ({first}); get it there, or "
            f"put it in a folder as {benchmark.files[0]}.jsonl and name that with {DATA_VARIABLE} (or --data-dir, "
            "where the command has it)"
        ) from None
    for number, row in enumerate(loaded):
        place = f"{benchmark.source}, row {number}"
        yield place, _common(benchmark, row, number, seed)


def _fetched(benchmark: Benchmark) -> Any:
    if benchmark.source.startswith("https://"):
        with urllib.request.urlopen(benchmark.source, timeout=60) as answer:
            return json.loads(answer.read())
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it announces each of its attempts
    if benchmark.source.startswith("hf://"):
        return datasets.load_dataset("json", data_files=benchmark.source, split=benchmark.split)
    return datasets.load_dataset(benchmark.source, benchmark.config or None, split=benchmark.split)


def _common(benchmark: Benchmark, row: Mapping[str, Any], number: int, seed: int) -> dict[str, Any] | str:
    try:
        if benchmark.name == "gpqa_diamond":
            return forms.gpqa(row, number, seed)
        return benchmark.read(row) if benchmark.read is not None else forms.renamed(row, benchmark.columns)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        return f"not in the form of {benchmark.name} ({type(error).__name__}: {str(error)[:80]})"
