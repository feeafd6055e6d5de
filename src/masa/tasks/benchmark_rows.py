"""Rows of benchmarks, from the forms they are published in to the one form that is graded.

The common form is a mapping with `id`, `problem`, `answer` and what the grader needs besides (`choices`, `unit`,
`tests`, `entry_point`, ...). Files in a folder have it already.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import random
import zlib
from collections.abc import Mapping
from typing import Any

from masa.errors import UserError
from masa.grading.answers import last_boxed

LETTERS = "ABCDEFGHIJ"
Row = dict[str, Any]


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
    """A row with columns under the common names (new name to old); the others stay."""
    taken = set(columns.values())
    kept = {name: value for name, value in row.items() if name not in taken}
    return {**kept, **{new: row[old] for new, old in columns.items() if old in row}}


def gsm8k(row: Mapping[str, Any]) -> Row:
    """The answer is what follows `####`."""
    solution = str(row["answer"])
    return {"problem": row["question"], "answer": solution.rpartition("####")[2].strip(), "solution": solution}


def math(row: Mapping[str, Any]) -> Row:
    """The answer is the last box of the solution."""
    return {**row, "answer": row.get("answer") or last_boxed(str(row["solution"])) or ""}


def olympiadbench(row: Mapping[str, Any]) -> Row:
    """`final_answer` is a list of one text."""
    answers = row["final_answer"]
    answer = ", ".join(map(str, answers)) if isinstance(answers, list) else str(answers)
    return {**row, "problem": row["question"], "answer": answer}


def logic(row: Mapping[str, Any]) -> Row:
    """Logic-LLM's files: `context`, `question`, `options` with their labels."""
    return renamed(row, {"problem": "question", "choices": "options"})


def arc(row: Mapping[str, Any]) -> Row:
    """Some rows have the labels 1 to 4; all get letters."""
    labels, texts = list(row["choices"]["label"]), list(row["choices"]["text"])
    answer = LETTERS[labels.index(row["answerKey"])]
    return {"id": row["id"], "problem": row["question"], "choices": texts, "answer": answer}


def rbench(row: Mapping[str, Any]) -> Row:
    """Options stand in the columns A to F."""
    choices = [str(row[letter]) for letter in "ABCDEF" if row.get(letter) is not None]
    return {"problem": row["question"], "choices": choices, "answer": str(row["answer"]).strip()}


def gpqa(row: Mapping[str, Any], place: int, seed: int) -> Row:
    """The options in an order drawn from (seed, place), so that the right one stands anywhere."""
    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    options = [str(row[name]).strip() for name in names]
    order = random.Random(f"gpqa/{seed}/{place}").sample(range(4), 4)
    return {
        "id": row.get("Record ID") or f"gpqa_{place}",
        "problem": str(row["Question"]).strip(),
        "choices": [options[which] for which in order],
        "answer": LETTERS[order.index(0)],
    }


def scibench(row: Mapping[str, Any]) -> Row:
    """`answer_number` is a decimal text, in the unit that the row names."""
    return {**row, "problem": row["problem_text"], "answer": str(row["answer_number"])}


def mbpp(row: Mapping[str, Any]) -> Row:
    """Official columns `text`, `code`, `test_list`."""
    return renamed(row, {"id": "task_id", "problem": "text", "answer": "code", "tests": "test_list"})


def humaneval_plus(row: Mapping[str, Any]) -> Row:
    """As HumanEval; the tests want NumPy for one function."""
    return {
        "id": row["task_id"],
        "problem": row["prompt"],
        "answer": row["canonical_solution"],
        "tests": without_numpy(row["test"]),
        "entry_point": row["entry_point"],
    }


def mbpp_plus(row: Mapping[str, Any]) -> Row:
    """The Hub's `test` holds inputs and results; the repository's file has inputs and a solution to compare with."""
    if "plus_input" in row:
        return {**row, "tests": tests_by_solution(row), "test_list": [row["tests"]]}
    setup = "\n".join(row.get("test_imports") or [])
    tests = f"{setup}\n{without_numpy(row['test'])}"
    return {
        "id": row["task_id"],
        "problem": row["prompt"],
        "answer": row["code"],
        "tests": tests,
        "test_list": row["test_list"],
    }


_ALLCLOSE = '''
class np:
    """Of NumPy what these tests use, on plain lists."""
    ndarray = ()

    @staticmethod
    def allclose(left, right, rtol=1e-05, atol=1e-08):
        if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
            return len(left) == len(right) and all(map(lambda a, b: np.allclose(a, b, rtol, atol), left, right))
        return left == right or abs(left - right) <= atol + rtol * abs(right) < float("inf")
'''


def without_numpy(tests: str) -> str:
    """Tests that need nothing but the standard library: the sandbox has nothing else."""
    return tests.replace("import numpy as np", _ALLCLOSE, 1)


_FINDERS = ("check_str", "text_match_three", "text_starta_endb")
"""Functions that say whether they find a pattern: by a match or None, or by True or False."""


def tests_by_solution(row: Mapping[str, Any]) -> str:
    """Tests that compare with what the row's own solution returns, within its tolerance."""
    name = row["entry_point"]
    inputs = [*row["base_input"], *row["plus_input"]]
    return f"""{_ALLCLOSE}
import copy, json
_scope = {{}}
exec({row["answer"]!r}, _scope)
_inputs = json.loads({json.dumps(inputs)!r})
_atol = {float(row.get("atol") or 0)!r}

def _same(mine, wanted):
    if {name in _FINDERS}:
        return (mine is None or mine is False) == (wanted is None)
    if mine == wanted:
        return True
    if isinstance(mine, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return len(mine) == len(wanted) and all(map(_same, mine, wanted))
    numbers = (int, float)
    if isinstance(mine, numbers) and isinstance(wanted, numbers) and (_atol or isinstance(wanted, float)):
        return np.allclose(mine, wanted, rtol=1e-07, atol=_atol or 1e-06) or (mine != mine and wanted != wanted)
    return False

for _input in _inputs:
    try:
        _wanted = _scope[{name!r}](*copy.deepcopy(_input))
    except Exception:
        continue  # not an input that the solution takes in this form
    assert _same({name}(*copy.deepcopy(_input)), _wanted), _input
"""


class _TextOnly(pickle.Unpickler):
    """Reads a pickled text, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a text")


def livecodebench(row: Mapping[str, Any]) -> Row:
    """Public and private cases; the private ones may be JSON, or a pickled, compressed and encoded JSON text."""
    cases = [*_cases(row["public_test_cases"]), *_cases(row.get("private_test_cases") or "[]")]
    metadata = json.loads(row.get("metadata") or "{}")
    name = metadata.get("func_name")
    made: Row = {
        "id": row["question_id"],
        "problem": row["question_content"],
        "answer": "-",
        "starter_code": row.get("starter_code") or "",
        "contest_date": str(row.get("contest_date") or ""),
    }
    if not name:
        return {**made, "cases": [{"input": case["input"], "output": case["output"]} for case in cases]}
    tests = []
    for case in cases:
        arguments = [json.loads(line) for line in case["input"].split("\n") if line.strip()]
        call = ", ".join(map(repr, arguments))
        tests.append(f"assert plain(Solution().{name}({call})) == {json.loads(case['output'])!r}")
    # Tuples count as lists there.
    plain = (
        "def plain(value):\n    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value\n"
    )
    return {**made, "tests": plain + "\n".join(tests), "entry_point": "Solution"}


def _cases(text: str) -> list[dict[str, str]]:
    try:
        return list(json.loads(text))
    except ValueError:
        pass
    try:
        packed = zlib.decompress(base64.b64decode(text))
        return list(json.loads(_TextOnly(io.BytesIO(packed)).load()))
    except (ValueError, TypeError, EOFError, zlib.error, binascii.Error, pickle.UnpicklingError) as error:
        raise UserError(f"test cases of a LiveCodeBench row cannot be read ({error})") from None
