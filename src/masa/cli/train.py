"""`masa train`: evaluation before, training, evaluation after, report."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
from rich.console import Console
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging as transformers_logging

from masa import models
from masa.cli.data_source import DataSource
from masa.cli.evaluation_data import load_source
from masa.cli.job import Job
from masa.cli.loading import load_model
from masa.cli.progress import Progress, show_summary
from masa.errors import UserError
from masa.evaluation.heldout import HeldOut
from masa.grading.reward import correctness_reward
from masa.processes import Team
from masa.records import Problem
from masa.report import write_report
from masa.runs import Ledger, RunFolder
from masa.tasks.dataset import to_dataset
from masa.training import checkpoint
from masa.training.interruption import leaving_with_a_word
from masa.training.trainer import MASATrainer

Reward = Callable[..., Sequence[float | None]]
_TRANSFER = ("problems", "pass_at_1", "pass_at_1_low", "pass_at_1_high", "by_task")
"""What is written of problems whose tasks are not trained on."""


def run(job: Job, *, resume: bool = False) -> Path:
    """Do the job; returns the report's path.

    Raises:
        UserError: on anything the user can mend, before training where it can be known by then.
        Interrupted: on Ctrl-C or SIGTERM; training finishes its step and saves a checkpoint first.
    """
    with _left_at_once(job):
        return _run(job, resume=resume)


def _left_at_once(job: Job) -> AbstractContextManager[None]:
    return leaving_with_a_word(f"while not training: go on with --resume where {job.args.output_dir} has a checkpoint")


def _run(job: Job, *, resume: bool) -> Path:
    team = Team()
    # Brackets in paths and texts are theirs.
    console = Console(stderr=True, markup=False, quiet=not team.is_main)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    args = job.args
    model_path = models.resolve(job.model)
    reward = _load_reward(job.reward) if job.reward else correctness_reward
    heldout_problems = _load(job.heldout.data, console, is_test=True)
    transfer = _load(job.heldout.transfer, console, is_test=True)
    problems = _without(_load(job.data, console, is_test=False), [*heldout_problems, *transfer], console)
    folder, last = team.first(lambda: _folder(job, resume=resume))
    if last is not None and _is_spent(job, checkpoint.ledger_of(last)):
        args.max_steps = checkpoint.step_of(last)  # it ended by its budget: what is left is what follows training
    model, tokenizer = load_model(model_path, is_trained=True)
    try:
        trainer = MASATrainer(
            model,
            reward,
            args=args,
            train_dataset=_dataset(problems, job),
            processing_class=tokenizer,
            peft_config=_lora(job.lora),
        )
    except UserError:
        raise
    except ValueError as error:  # what TRL, transformers and PEFT say of settings they refuse
        raise UserError(f"settings: {error}") from error
    if not trainer.serves_own_experience:
        raise UserError(
            f"masa train does not serve {', '.join(trainer.unserved)}: leave it out, or use MASATrainer from Python, "
            "where preset 'grpo' keeps TRL's own path"
        )
    if left_out := len(problems) - len(trainer.problem_keys):
        console.print(f"{left_out} training problems exceed max_prompt_length {args.max_prompt_length}: left out")
    trainer.run = folder if team.is_main else None
    trainer.remove_callback(PrinterCallback)
    progress = Progress(console, total=trainer.args.max_steps, output=folder.path)
    trainer.step_listeners.append(progress.update)
    trainer.add_callback(_Budget(trainer, job))
    evaluate = _evaluator(job, trainer, heldout_problems, transfer, progress)
    if job.heldout.every:
        trainer.add_callback(_EvaluateEvery(job.heldout.every, evaluate))
    if last is None:
        if team.is_main:
            folder.rewind(0)
        trainer.start_listeners.append(partial(_evaluate_first, job, evaluate))
    with progress:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    evaluate(trainer.state.global_step)
    trainer.save_model(str(folder.path / "model"))
    report = team.first(lambda: write_report(folder.path))
    show_summary(console, folder, report)
    team.leave()
    return report


def _folder(job: Job, *, resume: bool) -> tuple[RunFolder, Path | None]:
    """The run's folder, and the checkpoint to go on from."""
    folder = RunFolder.create(
        job.args.output_dir,
        job.context() | job.args.resolved(),
        seeds={"seed": job.args.seed},
        resume=resume,
        may_differ=checkpoint.MAY_DIFFER,
        budget=job.budget,
    )
    last = checkpoint.latest(folder.path) if resume else None
    if resume and last is None and folder.last_step():
        raise UserError(
            f"{folder.path} holds {folder.last_step()} steps but no checkpoint to resume from: name another output"
        )
    return folder, last


def _load(sources: Sequence[DataSource], console: Console, *, is_test: bool) -> list[Problem]:
    problems: list[Problem] = []
    for source in sources:
        found, notes = load_source(source, is_test=is_test)
        for note in notes:
            console.print(note)
        problems += found
    return problems


def _without(problems: list[Problem], heldout: Sequence[Problem], console: Console) -> list[Problem]:
    """Training problems whose text is not held out: small tasks draw the same text under any seed."""
    texts = {problem.text for problem in heldout}
    kept = [problem for problem in problems if problem.text not in texts]
    if len(kept) < len(problems):
        console.print(f"{len(problems) - len(kept)} training problems are held out and were left out of training")
    if not kept:
        raise UserError("every training problem is held out: give other data, or another seed")
    return kept


def _dataset(problems: Sequence[Problem], job: Job) -> Any:
    """TRL's columns; the user message is the job's prompt around the problem, whose bare text stays in `problem`."""
    return to_dataset(problems, system=job.system, prompt=job.prompt)


def _lora(settings: dict[str, Any] | None) -> Any:
    if settings is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise UserError("`lora` needs the package peft: pip install -e '.[peft]'") from None
    try:
        return LoraConfig(task_type="CAUSAL_LM", **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"lora: {error}") from None


def _load_reward(name: str) -> Reward:
    """A reward function given as module:function; modules of the current folder count."""
    module_name, sign, function_name = name.partition(":")
    if not sign:
        raise UserError(f"--reward {name}: write module:function")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does when it is run
        raise UserError(
            f"--reward {name}: {type(error).__name__}: {error}; run masa where the module is, or mend it"
        ) from error
    finally:
        sys.path.pop(0)
    reward = getattr(module, function_name, None)
    if not callable(reward):
        raise UserError(f"--reward {name}: {module_name} has no function {function_name}")
    return reward  # type: ignore[no-any-return]


def _evaluator(
    job: Job, trainer: MASATrainer, problems: Sequence[Problem], transfer: Sequence[Problem], progress: Progress
) -> Callable[[int], None]:
    """Measures the held-out problems after a step, and those of other tasks; writes the result to the run folder."""
    if not problems:
        return lambda _: None
    heldout = _heldout(job, trainer, problems, "the held-out data")
    beside = None
    if transfer:
        beside = replace(_heldout(job, trainer, transfer, "the transfer data"), predictions=0, gate=None)

    def evaluate(step: int) -> None:
        started = time.perf_counter()
        with trainer.threads():
            row = heldout.measure(trainer.engine, step)
            if beside is not None:
                other = beside.measure(trainer.engine, step)
                row |= {f"transfer_{name}": other[name] for name in _TRANSFER}
                row["evaluation_tokens"] += other["evaluation_tokens"]
        row["tokens"] = trainer.ledger.generated_tokens
        row["seconds"] = sum(value for name, value in trainer.ledger.seconds.items() if name != "evaluation")
        trainer.ledger.add(evaluation_tokens=row["evaluation_tokens"])
        trainer.ledger.add_seconds(evaluation=time.perf_counter() - started)
        with trainer.team.together():
            if trainer.run is not None:
                trainer.run.append_evaluation(row)
                trainer.run.write_ledger(trainer.ledger.totals())
        progress.evaluated(row)

    return evaluate


def _heldout(job: Job, trainer: MASATrainer, problems: Sequence[Problem], where: str) -> HeldOut:
    dataset = _dataset(problems, job)
    prompts = trainer.prompts.without_cache()
    return HeldOut(
        rows=[dataset[key] for key in trainer.limits.usable_keys(dataset, prompts, where=where)],
        prompts=prompts,
        requests=trainer.args.request_maker(),
        is_correct=trainer.correct,
        decode=trainer.decode,
        solutions=job.heldout.solutions,
        predictions=job.heldout.predictions if trainer.args.num_meta_generations else 0,
        min_length=trainer.args.min_solution_length,
        predictor=trainer.experience.advisers.predictor,
        gate=trainer.experience.advisers.gate,
    )


def _evaluate_first(job: Job, evaluate: Callable[[int], None]) -> None:
    with _left_at_once(job):  # training itself would go on to the end of a step
        evaluate(0)


class _EvaluateEvery(TrainerCallback):  # type: ignore[misc]
    def __init__(self, every: int, evaluate: Callable[[int], None]) -> None:
        self._every = every
        self._evaluate = evaluate

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if state.global_step % self._every == 0 and state.global_step < state.max_steps:
            self._evaluate(state.global_step)


class _Budget(TrainerCallback):  # type: ignore[misc]
    """Ends training at a limit on generated tokens or on minutes, after the step that reaches it.

    Both are the ledger's, which a resumed run goes on with: an interruption gives no arm of a comparison more time.
    """

    def __init__(self, trainer: MASATrainer, job: Job) -> None:
        self._trainer = trainer
        self._job = job

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        # Clocks differ: the main process's decides.
        if self._trainer.team.first(lambda: _is_spent(self._job, self._trainer.ledger)):
            control.should_training_stop = True
            control.should_save = True


def _is_spent(job: Job, ledger: Ledger) -> bool:
    minutes = sum(ledger.seconds.values()) / 60
    return (job.max_tokens is not None and ledger.generated_tokens >= job.max_tokens) or (
        job.max_minutes is not None and minutes >= job.max_minutes
    )
