"""Prompts of both paths: what the policy reads when it solves a problem and when it foretells itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from masa.awareness.prompts import add_hint, build_meta_prompt
from masa.errors import UserError
from masa.records import Problem

Prompt = str | list[dict[str, Any]]
"""A text, or chat messages whose last one is the user's."""
Tokenize = Callable[[list[Prompt]], list[list[int]]]


class PromptBuilder:
    """Builds and tokenizes solution and meta prompts of dataset rows.

    The meta prompt is the row's own prompt with the problem's text replaced by a request to foretell its solutions,
    so that system message, chat template and the lack of one stay as they are.
    """

    def __init__(
        self,
        tokenize: Tokenize,
        *,
        template: str,
        min_length: int,
        max_length: int,
        problem_column: str | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        """
        Args:
            special_tokens: spelt out in a notion, they keep it out of hints: a tokenizer would take them for the
                template's own.
        """
        self._tokenize = tokenize
        self._template = template
        self._min_length = min_length
        self._max_length = max_length
        self._problem_column = problem_column
        self._special_tokens = tuple(token for token in special_tokens if token.strip())
        self._ids: dict[tuple[int, str], tuple[int, ...]] = {}

    def without_cache(self) -> PromptBuilder:
        """The same for another set of problems, whose keys name other texts."""
        other = copy(self)
        other._ids = {}
        return other

    def problem(self, key: int, row: Mapping[str, Any]) -> Problem:
        """The row as a problem; its text is the `problem_column`, else the last user message.

        Raises:
            UserError: naming the row and the field when there is no such text.
        """
        if self._problem_column is not None:
            text = row.get(self._problem_column)
            where = f"column {self._problem_column!r}"
        else:
            prompt = row.get("prompt")
            text = prompt if isinstance(prompt, str) else last_user_text(prompt)
            where = "a user message in column 'prompt'"
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"row {key} of the training set has no text in {where}: set problem_column to where it is")
        return Problem(
            key=key,
            text=text,
            answer=str(row.get("answer", "")),
            kind=str(row.get("kind", "math")),
            task=str(row.get("task", "")),
        )

    def solution_prompt(self, row: Mapping[str, Any], hint: Sequence[str] = ()) -> Prompt:
        """The row's own prompt, with one sentence that names the hinted notions if there are any."""
        prompt: Prompt = row["prompt"]
        safe = [notion for notion in hint if not any(token in notion for token in self._special_tokens)]
        return replace_user_text(prompt, lambda text: add_hint(text, safe)) if safe else prompt

    def meta_prompt(self, problem: Problem, row: Mapping[str, Any], context: str = "") -> Prompt:
        """The request to foretell this problem's solutions; `context` follows the problem's text on its own line."""
        text = f"{problem.text}\n{context}" if context else problem.text
        request = build_meta_prompt(
            text, template=self._template, min_length=self._min_length, max_length=self._max_length
        )
        return replace_user_text(row["prompt"], lambda _: request)

    def template_text(self, problem: Problem, row: Mapping[str, Any]) -> str:
        """What stands around the problem in its prompt: system message, instructions, other turns."""
        prompt: Prompt = row["prompt"]
        texts = [prompt] if isinstance(prompt, str) else [str(message["content"]) for message in prompt]
        return "\n".join(texts).replace(problem.text, "\n")

    def solution_ids(self, problem: Problem, row: Mapping[str, Any]) -> tuple[int, ...]:
        """Tokens of the prompt without a hint."""
        return self._cached(problem, "solution", lambda: self.solution_prompt(row))

    def meta_ids(self, problem: Problem, row: Mapping[str, Any]) -> tuple[int, ...]:
        """Tokens of the meta prompt."""
        return self._cached(problem, "meta", lambda: self.meta_prompt(problem, row))

    def tokenize(self, prompts: list[Prompt]) -> list[tuple[int, ...]]:
        """Tokens of any prompts, template applied."""
        return [tuple(ids) for ids in self._tokenize(prompts)] if prompts else []

    def _cached(self, problem: Problem, path: str, build: Callable[[], Prompt]) -> tuple[int, ...]:
        name = (problem.key, path)
        if name not in self._ids:
            self._ids[name] = self.tokenize([build()])[0]
        return self._ids[name]


def last_user_text(prompt: Any) -> Any:
    """What the last user message of a chat says; None if there is none."""
    for message in reversed(prompt or []):
        if message.get("role") == "user":
            return message.get("content")
    return None


def replace_user_text(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """The prompt with its text, or that of its last user message, changed; the rest as it was.

    Raises:
        UserError: for a chat without a user message.
    """
    if isinstance(prompt, str):
        return change(prompt)
    users = [i for i, message in enumerate(prompt) if message["role"] == "user"]
    if not users:
        raise UserError("a prompt has no user message: the meta prompt and hints stand in the last one")
    last = users[-1]
    return [
        {**message, "content": change(message["content"])} if i == last else message for i, message in enumerate(prompt)
    ]
