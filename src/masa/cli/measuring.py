"""What `masa eval`, `masa probe` and `masa solve` have in common: from a model's and data sets' names to answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from masa.awareness import resolve_template
from masa.cli.evaluation_data import NamedSet, find_sets
from masa.cli.loading import NamedModel, Policy, find_model, fingerprint, load_policy
from masa.errors import UserError
from masa.evaluation.answers import Answers, EvaluationSet, collect
from masa.evaluation.sampling import GroupSampler
from masa.grading import CodeSettings, grade_problems
from masa.grading.sandbox import check_isolation
from masa.rollout.prompting import PromptBuilder
from masa.rollout.requests import RequestMaker
from masa.runs.answers import AnswerFolder, file_name
from masa.runs.jsonlines import plain
from masa.tasks.dataset import chat_messages

DEFAULT_MAX_TOKENS = 2048
"""Where neither the user nor the model's own run names a limit."""
DEFAULT_MIN_LENGTH = 128
"""The paper's least foretold length, in tokens."""

_GRADED_BY = ("choices", "grader_settings", "tests", "cases")
"""Columns of a problem that its grader may read; others may hold what has no fixed form."""

Collected = list[tuple[str, list[Answers]]]
"""Each data set's name and the answers to its problems."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None is what the model's own run used, or a default.

    Raises:
        UserError: for a value out of range.
    """

    data: str | None = None
    n: int = 8
    """Solutions a problem."""
    m: int = 0
    """Predictions a problem."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    prompt: str | None = None
    system: str | None = None
    meta_prompt: str | None = None
    max_meta_tokens: int | None = None
    min_length: int | None = None
    limit: int | None = None
    seed: int | None = None
    batch_size: int = 128
    threads: int | None = None
    bf16: bool | None = None
    data_dir: Path | None = None
    output: Path | None = None
    allow_unsafe_code: bool = False
    """Run code even where it cannot be isolated."""

    def __post_init__(self) -> None:
        counts = ("max_tokens", "max_meta_tokens", "min_length", "limit", "batch_size", "threads")
        for name, low in {"n": 1, "m": 0, **dict.fromkeys(counts, 1)}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise UserError(f"--{name.replace('_', '-')} {value}: it must be at least {low}")
        if self.temperature is not None and not self.temperature >= 0:
            raise UserError(f"--temperature {self.temperature:g}: it must be at least 0")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p:g}: it must lie above 0 and be at most 1")
        if self.prompt is not None and "{problem}" not in self.prompt:
            raise UserError(f"--prompt {self.prompt!r} must contain {{problem}}")


@dataclass(frozen=True, slots=True)
class Measuring:
    """Everything that answers depend on."""

    command: str
    model: NamedModel
    options: Options
    sets: tuple[NamedSet, ...]
    requests: RequestMaker
    meta_prompt: str
    min_length: int

    def folder(self, **settings: Any) -> AnswerFolder:
        """The folder of the answers, new or half done; `settings` are further ones that they depend on.

        Raises:
            UserError: if it holds something else.
        """
        names = "-".join(file_name(Path(one.name).name) for one in self.sets)
        path = self.options.output or Path("runs") / f"{self.command}-{file_name(Path(self.model.name).name)}-{names}"
        # Another way to the same weights is no other model.
        return AnswerFolder(path, self.settings() | settings, may_differ=("model",))

    def load(self) -> Policy:
        """The model, ready to roll out."""
        options = self.options
        return load_policy(self.model, batch_size=options.batch_size, threads=options.threads, bf16=options.bf16)

    def collect(self, policy: Policy, folder: AnswerFolder, console: Console) -> Collected:
        """All answers; what the folder holds already is not sampled again.

        Raises:
            UserError: if a problem does not fit the model, or a file of the folder is damaged.
        """
        self.tell_notes(console)
        options = self.options
        sets = [self.prepared(one, policy) for one in self.sets]
        found: Collected = []
        for data in sets:
            with show_progress(console, data.name, len(data.problems)) as tell:
                found.append((data.name, collect(policy.engine, data, folder, n=options.n, m=options.m, tell=tell)))
        return found

    def tell_notes(self, console: Console) -> None:
        """What the user should know of the data sets."""
        for one in self.sets:
            for note in one.notes:
                console.print(f"note: {note}", soft_wrap=True, markup=False)

    def prompt_of(self, one: NamedSet) -> str:
        """Template of the solution prompt: the option's, the data set's own, the run's, or the bare problem."""
        return self.options.prompt or one.prompt or str(self.model.settings.get("prompt") or "{problem}")

    def system_of(self, one: NamedSet) -> str | None:
        """The system message, from the same places."""
        found = self.options.system or one.system or self.model.settings.get("system")
        return None if found is None else str(found)

    def settings(self) -> dict[str, Any]:
        """All that answers depend on, as plain values."""
        requests = self.requests
        settings: dict[str, Any] = {
            "command": self.command,
            "model": self.model.name,
            "weights": fingerprint(self.model.path),
            "data": {
                one.name: {
                    "problems": len(one.problems),
                    "digest": _digest(one),
                    "prompt": self.prompt_of(one),
                    "system": self.system_of(one),
                }
                for one in self.sets
            },
            "n": self.options.n,
            "temperature": requests.temperature,
            "top_p": requests.top_p,
            "max_tokens": requests.max_tokens,
            "seed": requests.seed,
            "bf16": "auto" if self.options.bf16 is None else self.options.bf16,
        }
        if self.options.m:
            settings |= {
                "m": self.options.m,
                "meta_prompt": self.meta_prompt,
                "max_meta_tokens": requests.max_meta_tokens,
                "min_length": self.min_length,
            }
        return settings

    def prepared(self, one: NamedSet, policy: Policy) -> EvaluationSet:
        """A data set with its prompts and its sampler.

        Raises:
            UserError: if a problem does not fit the model.
        """
        data = self.prompted(one, policy)
        self._check_room(data, policy.positions)
        return data

    def prompted(self, one: NamedSet, policy: Policy) -> EvaluationSet:
        """The same, whether or not every problem fits.

        Raises:
            UserError: for chat messages where the model has no template.
        """
        prompts = PromptBuilder(
            policy.tokenize,
            template=self.meta_prompt,
            min_length=self.min_length,
            max_length=self.requests.max_tokens,
            problem_column="problem",
            special_tokens=policy.tokenizer.all_special_tokens,
        )
        return EvaluationSet(
            name=one.name,
            problems=one.problems,
            rows=[{"prompt": prompt} for prompt in self._prompts(one, policy)],
            sampler=GroupSampler(prompts, self.requests, policy.decode),
            grade=one.grade,
            min_length=self.min_length,
        )

    def _prompts(self, one: NamedSet, policy: Policy) -> Iterator[Any]:
        template, system = self.prompt_of(one), self.system_of(one)
        if not policy.is_chat and system is not None:
            raise UserError(f"model {self.model.name} has no chat template, so no system message: put it into --prompt")
        for problem in one.problems:
            messages = chat_messages(problem, system=system, prompt=template)
            if not policy.is_chat and len(messages) > 1:
                raise UserError(
                    f"model {self.model.name} has no chat template, and problem {problem.key} of {one.name} is a "
                    "conversation: give texts"
                )
            yield messages if policy.is_chat else messages[0]["content"]

    def _check_room(self, data: EvaluationSet, positions: int | None) -> None:
        """Refuse, before any work, what does not fit the model."""
        if positions is None:
            return
        builder = data.sampler.prompts
        for problem, row in zip(data.problems, data.rows, strict=True):
            sizes = [(len(builder.solution_ids(problem, row)), self.requests.max_tokens, "--max-tokens")]
            if self.options.m:
                sizes.append((len(builder.meta_ids(problem, row)), self.requests.max_meta_tokens, "--max-meta-tokens"))
            for size, tokens, option in sizes:
                if size + tokens > positions:
                    raise UserError(
                        f"problem {problem.key} of {data.name}: a prompt of {size} tokens and a limit of {tokens} "
                        f"exceed the {positions} positions of {self.model.name}: give a lower {option}, or a --limit "
                        "that leaves such problems out"
                    )


def prepare(command: str, model_name: str, options: Options, sets: Sequence[NamedSet] | None = None) -> Measuring:
    """Find model and data, and fill in what the user left open; no model is loaded yet.

    Args:
        command: its name.
        model_name: as `find_model` takes it.
        options: what was asked for.
        sets: the data; by default that of `options.data`.

    Raises:
        UserError: for anything that cannot be found or does not go together.
    """
    model = find_model(model_name)
    own = model.settings
    if sets is None:
        sets = find_sets(options.data, model, data_dir=options.data_dir, limit=options.limit)
    if any(problem.kind == "code" for one in sets for problem in one.problems):  # before hours of sampling
        check_isolation(CodeSettings(allow_unsafe=options.allow_unsafe_code))
    if options.allow_unsafe_code:
        sets = [replace(one, grade=partial(grade_problems, allow_unsafe_code=True)) for one in sets]
    max_tokens = options.max_tokens or int(own.get("max_completion_length") or DEFAULT_MAX_TOKENS)
    min_length = options.min_length or int(own.get("min_solution_length") or min(DEFAULT_MIN_LENGTH, max_tokens))
    if not options.m:  # nothing is foretold
        min_length = min(min_length, max_tokens)
    if min_length > max_tokens:
        raise UserError(
            f"least foretold length {min_length} exceeds the limit of {max_tokens} tokens: see --min-length"
        )
    meta_prompt = options.meta_prompt or str(own.get("meta_prompt") or "math")
    try:
        resolve_template(meta_prompt)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"--meta-prompt: {error}") from None
    requests = RequestMaker(
        seed=int(own.get("seed", 0)) if options.seed is None else options.seed,
        max_tokens=max_tokens,
        max_meta_tokens=options.max_meta_tokens or int(own.get("max_meta_length") or max_tokens),
        temperature=float(own.get("temperature", 1.0)) if options.temperature is None else options.temperature,
        top_p=float(own.get("top_p", 1.0)) if options.top_p is None else options.top_p,
    )
    return Measuring(command, model, options, tuple(sets), requests, meta_prompt, min_length)


def _digest(one: NamedSet) -> str:
    """Of all that is asked, and of what graders go by."""
    digest = hashlib.blake2b(digest_size=8)
    for problem in one.problems:
        graded_by = {name: plain(problem.extra[name]) for name in _GRADED_BY if name in problem.extra}
        row = [problem.text, problem.answer, problem.kind, graded_by]
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


@contextmanager
def show_progress(console: Console, name: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal, a line a chunk elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        done = 0

        def tell(problems: int, tokens: int) -> None:
            nonlocal done
            done += problems
            bar.advance(task, problems)
            if not console.is_terminal:
                what = f"{tokens:,} tokens" if tokens else "already there"
                console.print(f"{name}: {done:,} of {total:,} problems ({what})", soft_wrap=True, markup=False)

        yield tell
