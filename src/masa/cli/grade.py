"""`masa grade`: a line of JSON in, a line of JSON out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.grading import CodeSettings, GradingCase, case_of, check_kind, grade_many
from masa.tasks.sources import PlacedRow, read_file, read_json_lines
from masa.yaml_values import read_plain_yaml

_BATCH = 512


def run(source: str, *, kind: str, assignments: Sequence[str], columns: tuple[str, str], allow_unsafe: bool) -> None:
    """Grades every row of a file, or of standard input (`-`), and writes `correct`, `extracted`, `reason` a line.

    Args:
        kind: of rows without a field `kind`.
        assignments: grader settings, `key=value`; a row's own `grader_settings` win.
        columns: names of the gold answer's and the prediction's field.

    Raises:
        UserError: for a faulty row, named by its line, before anything is written; for unknown kinds and settings.
    """
    check_kind(kind, where="--kind")
    settings = _settings(assignments)
    cases = [_case(place, row, kind, settings, columns) for place, row in _rows(source)]
    if allow_unsafe:
        cases = [(identity, _unprotected(case)) for identity, case in cases]
    correct = 0
    for start in range(0, len(cases), _BATCH):
        part = cases[start : start + _BATCH]
        for (identity, _), grade in zip(part, grade_many([case for _, case in part]), strict=True):
            correct += grade.correct
            line = {"correct": grade.correct, "extracted": grade.extracted, "reason": grade.reason}
            sys.stdout.write(json.dumps({**identity, **line}) + "\n")
        sys.stdout.flush()
    sys.stderr.write(f"{correct} of {len(cases)} correct\n")


def _unprotected(case: GradingCase) -> GradingCase:
    if not isinstance(case.settings, CodeSettings):
        return case
    return replace(case, settings=replace(case.settings, allow_unsafe=True))


def _rows(source: str) -> Iterable[PlacedRow]:
    if source == "-":
        return read_json_lines(sys.stdin.buffer, "standard input")
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"file {source} does not exist: check the path, or give - for standard input")
    return read_file(path)


def _settings(assignments: Sequence[str]) -> dict[str, Any]:
    settings = {}
    for assignment in assignments:
        name, found, value = assignment.partition("=")
        if not found or not name:
            raise UserError(f"--set {assignment!r}: write key=value")
        try:
            settings[name] = read_plain_yaml(value)
        except ValueError:
            raise UserError(f"--set {assignment!r}: the value is not valid YAML") from None
    return settings


def _case(
    place: str, row: Mapping[str, Any] | str, kind: str, settings: Mapping[str, Any], columns: tuple[str, str]
) -> tuple[dict[str, Any], GradingCase]:
    if isinstance(row, str):
        raise UserError(f"{place}: {row}")
    gold_column, prediction_column = columns
    text = row.get(prediction_column)
    if not isinstance(text, str):
        raise UserError(f"{place}: field {prediction_column!r} must be a text (--prediction-column names another)")
    own_kind = row.get("kind") or kind
    if not isinstance(own_kind, str):
        raise UserError(f"{place}: field 'kind' must be a text")
    check_kind(own_kind, where=place)
    gold = row.get(gold_column)
    if isinstance(gold, int | float) and not isinstance(gold, bool):
        gold = str(gold)
    if gold is None and own_kind in ("code", "reasoning_gym"):  # its tests, or its entry, stand in fields of their own
        gold = row.get("tests") or row.get("cases") or ""
    if gold is None or isinstance(gold, bool):
        raise UserError(f"{place}: field {gold_column!r} must be a text or a list (--gold-column names another)")
    own = row.get("grader_settings") or {}
    if not isinstance(own, Mapping):
        raise UserError(f"{place}: field 'grader_settings' must be a mapping")
    shared = settings if own_kind == kind else {}
    case = case_of(text, gold, own_kind, {**row, "grader_settings": {**shared, **own}}, where=place)
    return ({"id": row["id"]} if "id" in row else {}), case
