"""`MASATrainer`: a drop-in for TRL's `GRPOTrainer`, and the only file that touches TRL's private methods.

MASA makes the experience, TRL learns from it. Overridden, each checked by tests/training/test_trl_contract.py:
`_prepare_inputs` (serves our micro-batches), `compute_loss` (an empty micro-batch),
`_get_per_token_logps_and_entropies` (the loss's forward pass, over packed rows), `_generate_single_turn` (evaluation
through our engine), `get_train_dataloader` (a clock), `training_step` and `_get_grad_norm` (what a step did, and
whether it is finite), `_save_checkpoint` and `_load_optimizer_and_scheduler` (our state beside TRL's).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from trl.trainer import grpo_trainer

from masa.errors import UserError
from masa.processes import Team
from masa.records import Rollout
from masa.rollout.local import LocalEngine
from masa.rollout.prompting import PromptBuilder
from masa.rollout.shared import SharedEngine
from masa.rollout.vllm import VLLMEngine
from masa.runs import Ledger, RunFolder
from masa.seeding import Purpose
from masa.training import checkpoint, machine, sharding, support, trackers, trl_logs
from masa.training.advisers import make_advisers
from masa.training.config import MASAConfig
from masa.training.engines import make_engine, trls_vllm_left_out
from masa.training.experience import Experience, ExperienceMaker
from masa.training.imitation import ExpertLoop, warm_start
from masa.training.importance import ImportanceCorrection
from masa.training.interruption import Interruption
from masa.training.launcher import refuse_lost_processes
from masa.training.measures import Measures
from masa.training.microbatches import build_micro_batches, denominators
from masa.training.model_card import CardedTrainer
from masa.training.nonfinite import FiniteUpdates, finite_outputs
from masa.training.packed_forward import PackedForward
from masa.training.problem_stream import ProblemStream
from masa.training.prompt_limits import PromptLimits
from masa.training.reward_limit import RewardLimit
from masa.training.rollout_log import rollout_rows, show_completions
from masa.training.sampler import Sampler
from masa.training.scoring import RewardScorer
from masa.training.sft import Example
from masa.training.step_callback import StepCallback

StepListener = Callable[[dict[str, Any]], None]


class MASATrainer(CardedTrainer):
    """GRPO on experience that the policy itself helps to choose (arXiv 2510.03259).

    Takes `GRPOTrainer`'s arguments with a [`MASAConfig`] as `args`. Preset `grpo` with `loss_denominator: all` has
    TRL's loss and gradients; where it uses what MASA's generation does not serve (tools, `rollout_func`, images),
    TRL's own path runs untouched. The other presets refuse such features in one line.

    Attributes:
        run: the run folder, made at the start of training in `args.output_dir` unless set before; the main process's.
        start_listeners: called before the first step of a new run, with weights where they are trained.
        step_listeners: called with each step's metrics.
        unserved: what is asked for that only TRL's own path serves; empty where MASA's serves the run.

    Raises:
        UserError: on arguments that contradict each other or that the method cannot serve.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: MASAConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else MASAConfig()
        if not isinstance(args, MASAConfig):
            raise UserError(f"args is a {type(args).__name__}: MASATrainer needs a MASAConfig")
        reasons = support.unsupported(
            args,
            train_dataset=train_dataset,
            tools=kwargs.get("tools"),
            rollout_func=kwargs.get("rollout_func"),
            environment_factory=kwargs.get("environment_factory"),
        )
        support.refuse(args, reasons)
        with nullcontext() if reasons else trls_vllm_left_out(args):
            super().__init__(
                model, reward_funcs, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs
            )
        late = sharding.unserved(self._dist, args, self.model)
        if support.has_learned_positions(self.model):
            late.append("a model with learned positions (its log-probabilities are wrong under TRL's left padding)")
        if self._is_vlm:
            late.append("a vision-language model")
        if not reasons:
            support.refuse_beside_vllm(args, late)
        reasons += late
        support.refuse(args, reasons)
        self.run: RunFolder | None = None
        self.start_listeners: list[Callable[[], None]] = []
        self.step_listeners: list[StepListener] = []
        self.unserved = reasons
        self.serves_own_experience = not reasons
        if self.serves_own_experience:
            self._build_method()

    def _build_method(self) -> None:
        args: MASAConfig = self.args
        self.team = Team()
        refuse_lost_processes(self.team.size)
        with self.team.together():
            engine = make_engine(self)
        self.use_vllm: bool = args.use_vllm
        self.importance = ImportanceCorrection.of(args)
        self.is_sharded = sharding.is_sharded(self._dist)
        if self._dist.zero_stage:
            sharding.leave_out_empty_passes(self.accelerator)
        self.engine: LocalEngine | VLLMEngine | SharedEngine = engine
        if self.team.size > 1 or self.is_sharded:
            self.engine = SharedEngine(engine, self.team, partial(sharding.whole_weights, self))
        self.packed = PackedForward.where_possible(
            args,
            self.model,
            autocast=self.accelerator.autocast,
            aux_loss=self.aux_loss_enabled,
            is_sharded=self.is_sharded,
        )
        self.prompts = PromptBuilder(
            lambda prompts: self._tokenize_prompts(prompts)[0],
            template=args.meta_prompt,
            min_length=args.min_solution_length,
            max_length=args.max_completion_length,
            problem_column=args.problem_column,
            special_tokens=self._tokenizer.all_special_tokens,
        )
        self.limits = PromptLimits.of(args, self.engine.positions)
        self.problem_keys = keys = self.limits.usable_keys(self.train_dataset, self.prompts)
        self.reward_limit = RewardLimit(args.reward_timeout)
        self.reward_funcs: list[Any] = self.reward_limit.limited(self.reward_funcs, self.reward_func_names)
        self.scorer = RewardScorer(
            args,
            self._own_rewards,
            self.reward_func_names,
            self.reward_weights,
            needed=support.needs_method(args),
            team=self.team,
        )
        self.experience = ExperienceMaker(
            args,
            sampler=Sampler(
                args,
                engine=self.engine,
                prompts=self.prompts,
                advisers=make_advisers(args),
                decode=self.decode,
                limits=self.limits,
            ),
            stream=ProblemStream(keys, seed=args.seed, shuffle=args.shuffle_dataset is not False),
            problems=self.train_dataset,
            score=self.scorer,
            correct=self.correct,
        )
        self.ledger = Ledger()
        self.measures = Measures()
        self.expert = ExpertLoop(args)
        self.updates = FiniteUpdates(args.max_nonfinite_steps)
        self.interruption = Interruption(self.team)
        self._experience: Experience | None = None
        self._step_loss: Tensor | None = None
        self._grad_norm: float | None = None
        self._update_started = 0.0
        self._step_started = (0.0, 0.0)
        self._evaluation_draws = (-1, 0)
        self._steps_done = 0
        self.add_callback(StepCallback(self))
        self.add_callback(self.interruption)

    # Experience for TRL's learner

    def get_train_dataloader(self) -> Any:
        """Only a clock: which problems come next is the problem stream's business."""
        if not self.serves_own_experience:
            return super().get_train_dataloader()
        steps = max(1, len(self.problem_keys) // self.args.problems_a_step)
        if 0 < self.args.max_steps <= self._steps_done:
            steps = self.args.max_steps  # all in one epoch that is over: transformers would begin another step
        ticks = list(range(steps * self.args.gradient_accumulation_steps))
        return DataLoader(ticks, batch_size=1, collate_fn=lambda _: {})  # type: ignore[arg-type]

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        if not self.serves_own_experience or not self.model.training:
            return super()._prepare_inputs(generation_batch)
        position = self._step % self.args.gradient_accumulation_steps
        if position == 0:
            self._step_started = time.perf_counter(), time.process_time()
            self._experience = self.experience.make(self.state.global_step + 1)
            self._buffered_inputs = self._micro_batches(self._experience)
            self._step_loss, self._grad_norm = None, None
            self._update_started = time.perf_counter()
        return self._buffered_inputs[position]

    def _micro_batches(self, experience: Experience) -> list[dict[str, Tensor]]:
        args: MASAConfig = self.args
        return build_micro_batches(
            experience.rows,
            count=args.gradient_accumulation_steps,
            max_rows=args.micro_batch_rows if args.problems_per_step else args.per_device_train_batch_size,
            loss_type=args.loss_type,
            denominator=denominators(
                experience.rows, loss_type=args.loss_type, mode=args.loss_denominator, meta_weight=args.meta_weight
            ),
            pad_token_id=self._tokenizer.pad_token_id,
            device=self.accelerator.device,
            drop_dead=support.can_drop_dead_rows(args, aux_loss=self.aux_loss_enabled),
            share_prompts=self.packed is not None and self.packed.is_on,
            team=self.team,
        )

    @property
    def _has_rows(self) -> bool:
        """Whether the step has anything to learn from, on this process or another."""
        return any(len(batch["advantages"]) for batch in self._buffered_inputs)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.serves_own_experience and self.model.training and not inputs["completion_ids"].size(0):
            # No parameter takes part, so gradients stay None and AdamW, which moves on zeros, does not move.
            return torch.zeros((), device=self.accelerator.device, requires_grad=not self._dist.zero_stage)
        if self.serves_own_experience and self.importance is not None:
            self.importance.begin(inputs)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        if self.serves_own_experience and not self.is_sharded:
            # Gradients are averaged after the last micro-batch (`Team.average_gradients`), so the wrapper that would do
            # it on the way, and make processes wait for each other's forward passes, is left out.
            model = self.accelerator.unwrap_model(model)
        own = partial(
            super()._get_per_token_logps_and_entropies,
            model,
            input_ids,
            attention_mask,
            logits_to_keep,
            *args,
            **kwargs,
        )
        if not self.serves_own_experience:
            return own()
        scores = own() if self.packed is None else self.packed(input_ids, attention_mask, logits_to_keep, own)
        if self.importance is not None and self.model.training:
            self.importance.complete(scores[0])
        return scores

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.serves_own_experience:
            self._step_loss = loss if self._step_loss is None else self._step_loss + loss
            if self.accelerator.sync_gradients:
                if not self.is_sharded:
                    self.team.average_gradients(self.model.parameters())
                self._step_loss = self.team.mean(self._step_loss)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        grad_norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.serves_own_experience:
            self._grad_norm = float(grad_norm) if self._has_rows else 0.0  # DeepSpeed's is the last step's
            # float16's scaler skips by itself and lowers its scale. So does DeepSpeed: here its steps are but counted.
            if self.accelerator.scaler is None and not self.args.fp16:
                self.updates.check(self.model, self._step_loss, self._grad_norm)
                if self.updates.is_skipped and self._dist.zero_stage:
                    sharding.refuse_moved_weights(self.accelerator)
            return self._grad_norm
        return grad_norm

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluation's completions, from our engine."""
        if not self.serves_own_experience:
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)
        step, drawn = self._evaluation_draws
        if step != self.state.global_step:
            step, drawn = self.state.global_step, self.team.rank << 32  # each process is given its own prompts
        requests = self.args.request_maker().solutions(
            [tuple(ids) for ids in prompt_ids], step, drawn, purpose=Purpose.EVALUATION
        )
        self._evaluation_draws = (step, drawn + len(requests))
        generate = self.engine.generate_own if isinstance(self.engine, SharedEngine) else self.engine.generate
        rollouts = generate(requests, logprobs=self.importance is not None)
        logprobs = None if self.importance is None else [list(rollout.logprobs or ()) for rollout in rollouts]
        return [list(rollout.token_ids) for rollout in rollouts], logprobs

    def _own_rewards(self, *answers: Any) -> tuple[Tensor, dict[str, list[Any]]]:
        """Rewards of this process's answers and what the functions logged of them by column.

        TRL would gather rewards of all processes, which must then be as many on each.
        """
        own, grpo_trainer.gather = grpo_trainer.gather, lambda rewards: rewards
        try:
            rewards: Tensor = self._calculate_rewards(*answers)
            return rewards, dict(self._pending_extra_logs)
        finally:
            grpo_trainer.gather = own
            self._pending_extra_logs.clear()

    # Texts and prompts

    def decode(self, rollouts: Sequence[Rollout]) -> list[str]:
        """Rollouts to texts, special tokens skipped."""
        ids = [list(rollout.token_ids) for rollout in rollouts]
        return list(self._tokenizer.batch_decode(ids, skip_special_tokens=True)) if ids else []

    def correct(
        self, rows: Sequence[Mapping[str, Any]], rollouts: Sequence[Rollout], texts: Sequence[str]
    ) -> list[bool | None]:
        """Which of these answers to dataset rows are correct, as in training; leaves the training's logs alone."""
        kept = self.__dict__["_pending_metrics"]
        try:
            self._pending_metrics = defaultdict(list)
            return self.scorer.correct(rows, rollouts, texts)
        finally:
            self._pending_metrics = kept

    # The run

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        if not self.serves_own_experience:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        last = checkpoint.to_resume(resume_from_checkpoint, self.args.output_dir, sharding.kind(self.accelerator))
        self._steps_done = checkpoint.step_of(last)
        trackers.guard(self.callback_handler.callbacks)
        if self.team.first(lambda: self.run is None):
            run = self.team.first(lambda: checkpoint.run_folder(self.args, resume=last is not None))
            self.run = run if self.team.is_main else None
        output = self.args.output_dir
        with self.threads(), self.interruption.watch(), checkpoint.only_tensors(last), finite_outputs(output):
            return super().train(None if last is None else str(last), *args, **kwargs)

    def example(self, prompt_ids: Sequence[int], text: str) -> Example:
        """A text to imitate after a prompt, ended by the template's own token; others that it spells out are text."""
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return Example(tuple(prompt_ids), (*ids, self._tokenizer.eos_token_id))

    def threads(self) -> AbstractContextManager[None]:
        """The run's number of CPU threads, for as long as the context lasts."""
        return machine.threads(machine.thread_count(self.args.num_threads, self.model))

    def begin(self) -> None:
        """Before the first step of a new run, with weights where they are trained: listeners, then the warm start."""
        for listener in self.start_listeners:
            listener()
        if self.args.warm_start:
            self.measures.warm_start = warm_start(self)
            self._pending_metrics.clear()  # of rollouts that no step has

    def finish_step(self) -> None:
        """After the optimizer's step and before its checkpoint: expert SFT, ledger, metrics, files."""
        experience = self._experience
        assert experience is not None
        ended = time.perf_counter()
        seconds = dict(experience.seconds) | {"update": ended - self._update_started}
        learned = self.expert.after_step(self, experience)
        seconds["expert"] = time.perf_counter() - ended
        self.measures.account(
            self.ledger,
            experience,
            learned,
            seconds,
            trained_tokens=int(self.team.total(sum(int(b["completion_mask"].sum()) for b in self._buffered_inputs))),
            is_updated=self._has_rows,
            is_skipped=self.updates.is_skipped,
        )
        metrics = self.measures.step_metrics(experience, self.experience, self.ledger)
        metrics |= learned | {name: self.team.total(n) for name, n in self.reward_limit.metrics().items()}
        if self.importance is not None:
            metrics |= trl_logs.importance_metrics(self._metrics["train"], self.importance.settle(self.team))
        if experience.step == 1:
            metrics |= self.measures.warm_start
        metrics |= {
            "loss": None if self._step_loss is None else self._step_loss.item(),
            "grad_norm": self._grad_norm,
            **trl_logs.learner_metrics(self._metrics["train"], self._buffered_inputs),
            "learning_rate": self._get_learning_rate(),
            "epoch": self.experience.stream.epoch,
            **{f"time/{name}": value for name, value in seconds.items()},
            "time/step": time.perf_counter() - self._step_started[0],
            "time/processor": time.process_time() - self._step_started[1],
        }
        metrics = {name: value for name, value in metrics.items() if value is not None}
        self._fill_trl_logs(experience, metrics)
        with self.team.together():
            if self.run is not None:
                rows = rollout_rows(experience) if self.args.log_rollouts else None
                self.run.write_step(experience.step, metrics, self.ledger.totals(), rows)
        for listener in self.step_listeners:
            listener({"step": experience.step, **metrics})
        if self.team.is_main:
            show_completions(experience, self.args.show_completions_every)
        self._experience = None
        self.updates.stop_if_hopeless(experience.step, self.args.output_dir)

    def _fill_trl_logs(self, experience: Experience, metrics: dict[str, Any]) -> None:
        """TRL's own metric names, for its trackers and callbacks, and ours beside them."""
        own = self._metrics["train"]
        self.state.num_input_tokens_seen += sum(len(r.prompt_ids) + len(r.completion_ids) for r in experience.rows)
        trl_logs.note_metrics(own, experience, metrics, self.state.num_input_tokens_seen)
        trl_logs.fill_completions(self._logs, experience)
        scalars = self.team.gather(dict(self._pending_metrics))
        trl_logs.note_reward_metrics(own, scalars)
        self._pending_metrics.clear()

    # Checkpoints

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self.serves_own_experience:
            super()._save_checkpoint(model, trial)
            return
        with checkpoint.staged(self, trial) as folder:
            super()._save_checkpoint(model, trial)
            checkpoint.save_state(folder, self)

    def _load_optimizer_and_scheduler(self, checkpoint_folder: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint_folder)
        if self.serves_own_experience and checkpoint_folder is not None:
            checkpoint.load_state(checkpoint_folder, self)
