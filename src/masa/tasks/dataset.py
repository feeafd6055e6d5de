"""Problems from anything that holds rows, with errors that name file, line and field before training starts."""

from __future__ import annotations

import ast
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from masa.errors import UserError, nearest
from masa.records import Problem
from masa.tasks.sources import PlacedRow, Row, open_source, rows_in_memory

if TYPE_CHECKING:
    import datasets

PROCEDURAL = "reasoning_gym:"
BUNDLED = "bundled"
_OWN_COLUMNS = ("problem", "answer", "kind", "task", "prompt")


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """Problems that can be trained or measured on, and the rows that cannot."""

    problems: tuple[Problem, ...]
    """In the source's order; `key` is the index here."""
    skipped: int = 0
    """Rows left out because they were faulty."""
    complaints: tuple[str, ...] = ()
    """What was wrong with them, one line each."""
    source: str = ""

    def __len__(self) -> int:
        return len(self.problems)


def load_problems(
    source: str | os.PathLike[str] | Iterable[Row],
    *,
    problem_column: str = "problem",
    answer_column: str | None = "answer",
    kind: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    config: str | Mapping[str, Any] | None = None,
    size: int = 512,
    seed: int = 0,
) -> ProblemSet:
    """Problems from a file, a Hub id, rows in memory or a procedural task.

    A row needs a text (`problem_column`, or a `prompt` column of chat messages, whose last user message it is) and an
    answer (`answer_column`, a string or a number). Column names may be dotted: `reward_model.ground_truth`. All other
    columns are kept in `Problem.extra`, the messages of a chat `prompt` among them.

    Args:
        answer_column: None where no answers are needed: they are then empty.
        source: a `.jsonl`, `.json` or `.parquet` file; a folder saved by `datasets`; a Hub id `owner/name`; rows (a
            `datasets.Dataset`, a list of mappings); `bundled` or `reasoning_gym:<name>`.
        kind: which grader decides, for all rows; default: the row's own `kind` column, else `math`.
        split: of a Hub id, a saved folder or `bundled`; default the only one, else `train`.
        limit: use the first so many good rows.
        on_error: `skip` leaves faulty rows out and counts them.
        config: name of a Hub data set's config, the settings of a reasoning-gym task, or the `tasks` of `bundled`.
        size: problems to make, of procedural tasks only.
        seed: of procedural tasks only.

    Raises:
        UserError: if the source does not exist, a row is faulty (and `on_error` is `raise`) or no row is left.
        ValueError: for a `limit` below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if isinstance(source, str) and (source == BUNDLED or source.startswith(PROCEDURAL)):
        made = _procedural(source, size=min(size, limit or size), seed=seed, split=split, config=config)
        return ProblemSet(problems=tuple(made), source=source)
    name, rows = _rows(source, split, config)
    reader = _RowReader(problem_column, answer_column, kind)
    problems: list[Problem] = []
    complaints: list[str] = []
    for place, row in rows:
        made_of = reader.read(row, key=len(problems))
        if isinstance(made_of, str):
            complaints.append(f"{place}: {made_of}")
        else:
            problems.append(made_of)
            if len(problems) == limit:
                break
    if complaints and on_error == "raise":
        more = f" (and {len(complaints) - 1} more faulty rows)" if len(complaints) > 1 else ""
        raise UserError(f"{complaints[0]}{more}; mend the data, or skip faulty rows with on_error='skip'")
    if not problems:
        why = f": all {len(complaints)} rows are faulty, the first: {complaints[0]}" if complaints else ": it is empty"
        raise UserError(f"{name} has no problem to use{why}")
    return ProblemSet(tuple(problems), skipped=len(complaints), complaints=tuple(complaints), source=name)


def to_dataset(
    problems: Iterable[Problem], *, system: str | None = None, prompt: str = "{problem}"
) -> datasets.Dataset:
    """A data set as TRL's trainers take it: `prompt` (chat messages), `problem`, `answer`, `kind`, `task`, extras.

    The messages are those of `chat_messages`. An extra column stays as it is if Arrow gives it back unchanged, and is
    text otherwise: JSON, or a Python literal where JSON would lose something.
    """
    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]

    rows = list(problems)
    columns: dict[str, list[Any]] = {
        "prompt": [chat_messages(problem, system=system, prompt=prompt) for problem in rows],
        "problem": [problem.text for problem in rows],
        "answer": [problem.answer for problem in rows],
        "kind": [problem.kind for problem in rows],
        "task": [problem.task for problem in rows],
    }
    extras = dict.fromkeys(name for problem in rows for name in problem.extra if name not in _OWN_COLUMNS)
    for name in extras:
        values = [problem.extra.get(name) for problem in rows]
        columns[name] = values if _arrow_keeps(values, pa) else [_as_text(value) for value in values]
    return datasets.Dataset.from_dict(columns)


def chat_messages(problem: Problem, *, system: str | None = None, prompt: str = "{problem}") -> list[dict[str, str]]:
    """What a solver is asked: a problem that came with chat messages keeps them, else its text is the user's message.

    Args:
        problem: its `extra` may hold the messages under `prompt`.
        system: put in front where there is no system message.
        prompt: what the last message becomes; `{problem}` stands for what it was.

    Raises:
        UserError: if the problem's messages are none.
    """
    try:
        messages = _solver_messages(problem.extra.get("prompt")) or [{"role": "user", "content": problem.text}]
    except _FaultyRowError as fault:
        raise UserError(f"problem {problem.key}: {fault}") from None
    messages[-1]["content"] = prompt.replace("{problem}", messages[-1]["content"])
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _rows(
    source: str | os.PathLike[str] | Iterable[Row], split: str | None, config: str | Mapping[str, Any] | None
) -> tuple[str, Iterable[PlacedRow]]:
    if isinstance(source, str | os.PathLike):
        if config is not None and not isinstance(config, str):
            raise UserError(f"data {source}: config must be a config's name here, got {type(config).__name__}")
        return open_source(os.fspath(source), split=split, config=config)
    if isinstance(source, Mapping):
        raise UserError(f"data with splits {', '.join(map(str, source))}: give one of them, for example data['train']")
    return "the given data", rows_in_memory(source, "the given data")


def _procedural(
    source: str, *, size: int, seed: int, split: str | None, config: str | Mapping[str, Any] | None
) -> list[Problem]:
    from masa.tasks import procedural

    if isinstance(config, str):
        raise UserError(f"data {source}: config must be a mapping of settings, got {config!r}")
    try:
        if source == BUNDLED:
            known = dict(config or {})
            tasks = known.pop("tasks", [])
            if known or not isinstance(tasks, list):
                raise UserError(
                    f"data {source}: its config has only `tasks`, a list of names; got {dict(config or {})}"
                )
            if split not in (None, "train", "heldout"):
                raise UserError(f"data {source}: has no split {split!r}: it has train, heldout")
            return procedural.bundled_mix(size, seed, "heldout" if split == "heldout" else "train", tasks)
        if split is not None:
            raise UserError(f"data {source}: has no splits; take another seed for held-out problems")
        return procedural.reasoning_gym_problems(source.removeprefix(PROCEDURAL), size, seed, config)
    except ValueError as error:
        raise UserError(f"data {source}: {error}") from None


class _RowReader:
    """Turns rows into problems, or into the complaint why not."""

    def __init__(self, problem_column: str, answer_column: str | None, kind: str | None) -> None:
        from masa.grading import KINDS, check_kind

        self._problem_column = problem_column
        self._answer_column = answer_column
        self._kinds = KINDS
        self._kind = kind
        if kind is not None:
            check_kind(kind)

    def read(self, row: Row | str, *, key: int) -> Problem | str:
        if isinstance(row, str):
            return row
        try:
            text, used = self._text(row)
            answer = self._answer(row)
            kind = self._kind_of(row)
            _solver_messages(row.get("prompt"))
        except _FaultyRowError as fault:
            return str(fault)
        # A column under a name of its own stays as it is too: reward functions ask for it by that name.
        taken = {used, self._answer_column} & {"problem", "answer"} | {"task"}
        taken |= {"kind"} if self._kind is None else set()
        task = row.get("task")
        return Problem(
            key=key,
            text=text,
            answer=answer,
            kind=kind,
            task=task if isinstance(task, str) else "",
            extra={str(name): value for name, value in row.items() if name not in taken},
        )

    def _text(self, row: Row) -> tuple[str, str]:
        column = self._problem_column
        # The default name may be missing where TRL's own `prompt` column is there; a name that was asked for may not.
        if column == "problem" and column not in row and "prompt" in row:
            column = "prompt"
        value = _field(row, column)
        if isinstance(value, list):
            value = _last_user_text(value, column)
        if not isinstance(value, str):
            raise _FaultyRowError(f"field {column!r} must be a text or chat messages, got {_type_name(value)}")
        if not value.strip():
            raise _FaultyRowError(f"field {column!r} is empty")
        return value, column

    def _answer(self, row: Row) -> str:
        column = self._answer_column
        if column is None:
            return ""
        value = _field(row, column)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _FaultyRowError(f"field {column!r} must be a text or a number, got {_type_name(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise _FaultyRowError(f"field {column!r} is {value}")
        text = str(value)
        if not text.strip():
            raise _FaultyRowError(f"field {column!r} is empty")
        return text

    def _kind_of(self, row: Row) -> str:
        if self._kind is not None:
            return self._kind
        value = row.get("kind")
        if value is None:
            return "math"
        if value not in self._kinds:
            guess = nearest(value, self._kinds) if isinstance(value, str) else None
            near = f", did you mean {guess!r}" if guess else ""
            raise _FaultyRowError(
                f"field 'kind' names no grader: {value!r}{near} (known: {', '.join(self._kinds)}; "
                "kind=... overrides the column)"
            )
        return str(value)


class _FaultyRowError(Exception):
    """Why a row cannot be used; the place is added by the caller."""


def _field(row: Row, column: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            there = ", ".join(map(str, row)) or "none"
            raise _FaultyRowError(f"field {column!r} is missing (fields there: {there})")
        value = value[part]
    return value


def _last_user_text(messages: list[Any], column: str) -> str:
    for message in reversed(messages):
        if not isinstance(message, Mapping) or "content" not in message:
            raise _FaultyRowError(f"field {column!r}: a message needs 'role' and 'content', got {_type_name(message)}")
        if message.get("role") == "user":
            return _message_text(message["content"], column)
    raise _FaultyRowError(f"field {column!r} has no user message")


def _solver_messages(given: Any) -> list[dict[str, str]]:
    """The chat messages of a row's `prompt` column, which a solver is asked with; none if it holds no list."""
    messages = []
    for message in given if isinstance(given, list) else ():
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise _FaultyRowError(f"field 'prompt': a message needs 'role' and 'content', got {_type_name(message)}")
        messages.append({"role": str(message["role"]), "content": _message_text(message["content"], "prompt")})
    return messages


def _message_text(content: Any, column: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not parts or not all(isinstance(text, str) for text in texts):
        raise _FaultyRowError(f"field {column!r}: the user message must be text only")
    return "".join(str(text) for text in texts)


def _arrow_keeps(values: list[Any], pa: Any) -> bool:
    try:
        kept = pa.array(values).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    # Arrow turns tuples into lists and fills structs up with None: neither is what the row held.
    return all(type(new) is type(old) for new, old in zip(kept, values, strict=True)) and bool(kept == values)


def _as_text(value: Any) -> str:
    """JSON, or a Python literal where JSON would lose something (tuples, keys that are no strings)."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if json.loads(text) != value:
        try:
            literal = repr(value)
            return literal if ast.literal_eval(literal) == value else text
        except (ValueError, SyntaxError):  # a value with no literal form: its text has to do
            return text
    return text


def _type_name(value: Any) -> str:
    return "null" if value is None else type(value).__name__
