"""The whole trainer on a random model: what a run does, writes, refuses and takes up again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small_run import parity_of_length, sums

from masa.awareness import Estimate, Evidence, Predictor
from masa.errors import UserError
from masa.records import Prediction
from masa.runs import RunFolder
from masa.training import imitation
from masa.training.checkpoint import STATE_FILE
from masa.training.presets import NEVER, PRESETS
from masa.training.trainer import MASATrainer

MakeTrainer = Callable[..., MASATrainer]
EFFICIENT = {"preset": "masa-efficient", "parallel_steps": 1, "audit_rate": 0.0}


class Foresight(Predictor):
    """A predictor that is sure of what it is told."""

    name = "foresight"
    uses_predictions = True

    def __init__(self, pass_rates: dict[int, float], length: float | None = None) -> None:
        self.pass_rates, self.length = pass_rates, length

    def estimate(self, evidence: Evidence) -> Estimate:
        rate = self.pass_rates.get(evidence.problem.key, 0.5)
        return Estimate(pass_rate=rate, deviation=0.0, length=self.length, valid=4, abstains=False)


def folder(trainer: MASATrainer) -> RunFolder:
    return RunFolder.open(trainer.args.output_dir)


def weights(trainer: MASATrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_and_leaves_a_run_that_explains_itself(make_trainer: MakeTrainer, preset: str) -> None:
    changed: dict[str, Any] = {"preset": preset, "expert_buffer_size": 2}
    if PRESETS[preset]["parallel_steps"] not in (NEVER, 0):
        changed["parallel_steps"] = 1
    trainer = make_trainer(**changed)
    before = weights(trainer)
    trainer.train()
    assert not torch.equal(before, weights(trainer))
    metrics = folder(trainer).read_metrics()
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert metrics[-1]["tokens/generated"] == trainer.ledger.generated_tokens > 0
    rows = folder(trainer).read_rollouts(2)
    roles = {row["role"] for row in rows}
    assert roles == ({"solution", "meta"} if PRESETS[preset]["num_meta_generations"] else {"solution"})
    assert sum(row["role"] == "solution" for row in rows) >= 16
    assert folder(trainer).read_config()["preset"] == preset


def test_every_metric_is_documented_with_its_formula(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**EFFICIENT, warm_start=2, warm_start_updates=1)
    trainer.experience.advisers.predictor = Foresight(dict.fromkeys(range(0, 12, 2), 0.0), length=3.0)
    trainer.train()
    names = {name for row in folder(trainer).read_metrics() for name in row} - {"step"}
    page = Path(__file__).parents[2].joinpath("docs/metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_0-9/]+)`", page)) | {"reward_function/parity_of_length"}
    missing = {name for name in names if name not in documented and not name.endswith(("_low", "_high"))}
    assert not missing


def test_one_update_a_step_and_the_ledger_counts_them(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa")
    trainer.train()
    assert trainer.ledger.steps == trainer.ledger.policy_updates + trainer.ledger.steps_without_live_group == 3
    steps = {int(state["step"]) for state in trainer.optimizer.state.values()}
    assert steps == {trainer.ledger.policy_updates}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_without_live_group_moves_nothing_and_is_counted(make_trainer: MakeTrainer, preset: str) -> None:
    """A random model's predictions are all invalid, so that its meta groups are dead as well."""
    trainer = make_trainer(lambda completions, **_: [1.0] * len(completions), preset=preset, weight_decay=0.5)
    before = weights(trainer)
    trainer.train()
    assert torch.equal(before, weights(trainer))
    assert trainer.ledger.steps_without_live_group == 3
    assert trainer.state.global_step == 3


def test_a_plain_run_may_end_rollouts_before_any_length_could_be_foretold(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(min_solution_length=128, max_completion_length=6, max_steps=1)
    trainer.train()
    assert trainer.ledger.steps == 1


def test_gated_problems_are_not_rolled_out_and_their_predictions_teach_nothing(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**EFFICIENT, max_gated_share=1.0, hints=False, cutoff=False)
    trainer.experience.advisers.predictor = Foresight(dict.fromkeys(range(6), 1.0))
    experience = trainer.experience.make(2)
    gated = [group for group in experience.groups if group.is_gated]
    assert {group.problem.key for group in gated} == {g.problem.key for g in experience.groups if g.problem.key < 6}
    assert gated
    for group in gated:
        assert not group.solution.rollouts
        assert group.meta.rollouts
        assert not group.meta.rewards
    assert len(experience.rows) == 8 * (len(experience.groups) - len(gated))


def test_a_gate_that_would_skip_everything_lets_some_through(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**EFFICIENT)
    trainer.experience.advisers.predictor = Foresight(dict.fromkeys(range(12), 0.0))
    trainer.train()
    rows = folder(trainer).read_metrics()
    assert [row["gate/rule_share"] for row in rows[1:]] == [1.0, 1.0]
    assert [row["gate/share"] for row in rows[1:]] == [0.75, 0.75]


def test_rollouts_stop_at_the_predicted_limit_with_their_own_reason(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**EFFICIENT, gate="none", hints=False)
    trainer.experience.advisers.predictor = Foresight({}, length=2.0)
    rollouts = [r for g in trainer.experience.make(2).groups for r in g.solution.rollouts]
    assert max(r.length for r in rollouts) == 4  # factor 2 x 2 tokens
    assert {r.finish_reason.value for r in rollouts if r.length == 4} == {"cutoff"}
    assert trainer.experience.make(1).groups[0].solution.rollouts[0].length > 4  # parallel: no limit


def test_hints_name_a_prediction_in_the_prompt_that_is_trained_on(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Prediction(0.5, 6, ("carrying over",))
    monkeypatch.setattr("masa.training.sampler.parse_prediction", lambda *_, **__: said)
    trainer = make_trainer(**EFFICIENT, gate="none", cutoff=False)
    parallel, predictive = trainer.experience.make(1), trainer.experience.make(2)
    assert "carrying over" not in str([g.solution.prompts for g in parallel.groups])
    for group in predictive.groups:
        assert all("carrying over" in prompt[-1]["content"] for prompt in group.solution.prompts)
    trained_on = {row.prompt_ids for row in predictive.rows if row.path == "solution"}
    decoded = [trainer.processing_class.decode(ids) for ids in trained_on]
    assert all("carrying over" in text for text in decoded)


def test_old_checkpoints_go_only_after_the_new_one_is_whole(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(save_strategy="steps", save_steps=1, save_total_limit=1)
    trainer.train()
    found = sorted(path.name for path in Path(trainer.args.output_dir).glob("*checkpoint*"))
    assert found == ["checkpoint-3"]
    assert json.loads((Path(trainer.args.output_dir) / "checkpoint-3" / STATE_FILE).read_text())["step"] == 3
    assert not (Path(trainer.args.output_dir) / ".staging").exists()


def test_a_folder_that_holds_another_run_is_refused(make_trainer: MakeTrainer) -> None:
    make_trainer(max_steps=1).train()
    with pytest.raises(UserError, match="holds another run"):
        make_trainer(max_steps=1).train()


@pytest.mark.parametrize(
    ("reward", "word"),
    [
        (lambda completions, **_: [1.0], "returned 1 rewards, but 16 were expected"),
        (lambda completions, **_: [0.5] * len(completions), "name the reward function"),
    ],
)
def test_rewards_that_the_method_cannot_use_are_refused(make_trainer: MakeTrainer, reward: Any, word: str) -> None:
    with pytest.raises(UserError, match=word):
        make_trainer(reward, **EFFICIENT).train()


def test_several_reward_functions_need_a_name_for_what_is_correct(make_trainer: MakeTrainer) -> None:
    def brevity(completions: Any, **_: Any) -> list[float]:
        return [0.25] * len(completions)

    with pytest.raises(UserError, match="name in `correctness`"):
        make_trainer([parity_of_length, brevity], preset="masa")
    with pytest.raises(UserError, match="parity_of_length"):
        make_trainer([parity_of_length, brevity], preset="masa", correctness="parity_of_lenght")
    trainer = make_trainer([parity_of_length, brevity], **EFFICIENT, correctness="parity_of_length")
    trainer.train()
    row = folder(trainer).read_metrics()[-1]
    assert row["reward_function/brevity"] == 0.25
    assert row["reward/solution"] == pytest.approx(row["reward_function/parity_of_length"] + 0.25)
    assert row["pass_rate"] == pytest.approx(row["reward_function/parity_of_length"])


def test_rollouts_without_a_reward_are_left_out_of_group_and_outcome(make_trainer: MakeTrainer) -> None:
    def sometimes(completions: Any, **_: Any) -> list[float | None]:
        return [None if i % 4 == 0 else float(i % 4 == 1) for i in range(len(completions))]

    trainer = make_trainer(sometimes, preset="masa")
    for group in trainer.experience.make(1).groups:
        assert group.outcome is not None
        assert len(group.outcome.texts) == 3
        assert group.solution.advantages[0] == 0.0
        assert sum(group.solution.advantages) == pytest.approx(0.0, abs=1e-9)


def test_what_only_trl_serves_still_works_in_preset_grpo_and_is_refused_elsewhere(
    make_model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    from masa.training.config import MASAConfig

    calls: list[int] = []

    def rollout_func(prompts: list[Any], trainer: Any) -> dict[str, Any]:
        calls.append(len(prompts))
        ids = [[*tokenizer.encode(f"{i}"), tokenizer.eos_token_id] for i in range(len(prompts))]
        return {"prompt_ids": [[5, 6]] * len(prompts), "completion_ids": ids, "logprobs": [[0.0] * len(i) for i in ids]}

    def build(**changed: Any) -> MASATrainer:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "num_generations": 4,
            "per_device_train_batch_size": 8,
            "max_completion_length": 12,
            "min_solution_length": 2,
            "max_steps": 2,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
        }
        return MASATrainer(
            make_model(),
            parity_of_length,
            args=MASAConfig(**settings | changed),
            train_dataset=sums(8),
            processing_class=tokenizer,
            rollout_func=rollout_func,
        )

    trainer = build(preset="grpo")
    assert not trainer.serves_own_experience
    trainer.train()
    assert calls == [8, 8]
    with pytest.raises(UserError, match="does not serve rollout_func"):
        build(preset="masa")


def test_peft_evaluation_and_plain_text_prompts(make_model: Any, tokenizer: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    from masa.training.config import MASAConfig

    rows = Dataset.from_dict({"prompt": [f"{i} plus 1 is" for i in range(8)], "answer": [str(i + 1) for i in range(8)]})
    trainer = MASATrainer(
        make_model(),
        parity_of_length,
        args=MASAConfig(
            output_dir=str(tmp_path / "run"),
            preset="masa",
            problems_per_step=2,
            num_generations=2,
            num_generations_eval=2,
            per_device_eval_batch_size=4,
            max_completion_length=8,
            min_solution_length=2,
            meta_prompt="brief",
            max_steps=2,
            learning_rate=1e-2,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(4)),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    lora = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if "lora_B" in name}
    trainer.train()
    assert any(not torch.equal(lora[name], p) for name, p in trainer.model.named_parameters() if name in lora)
    evaluation = trainer.evaluate()
    assert 0.0 <= evaluation["eval_reward"] <= 1.0
    problem = trainer.prompts.problem(0, rows[0])
    assert trainer.prompts.meta_prompt(problem, rows[0]).endswith("0 plus 1 is")


def test_learned_positions_are_refused_for_the_method(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from masa.training.config import MASAConfig

    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64))
    args = MASAConfig(
        output_dir=str(tmp_path),
        preset="masa",
        max_completion_length=8,
        min_solution_length=2,
        use_cpu=True,
        report_to="none",
    )
    with pytest.raises(UserError, match="learned positions"):
        MASATrainer(model, parity_of_length, args=args, train_dataset=sums(8), processing_class=tokenizer)


def test_warm_start_teaches_the_form_before_any_rl(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(preset="masa", warm_start=4, warm_start_updates=3, warm_start_learning_rate=1e-2)
    rates: list[float | None] = []
    make = imitation.make_imitation
    monkeypatch.setattr(imitation, "make_imitation", lambda trainer, rate: (rates.append(rate), make(trainer, rate))[1])
    trainer.train()
    assert rates == [1e-2]
    learned = trainer.measures.warm_start
    assert learned["warm_start/examples"] == 8  # a prediction and a rehearsed solution a problem
    assert learned["warm_start/loss_last"] < learned["warm_start/loss_first"]
    assert learned.items() <= folder(trainer).read_metrics()[0].items()
    assert not any(name.startswith("warm_start/") for name in folder(trainer).read_metrics()[1])
    assert trainer.ledger.expert_updates == 3
    assert trainer.ledger.warm_start_tokens > 0
    seconds = folder(trainer).read_metrics()[0]["time/warm_start"]
    assert trainer.ledger.seconds["warm_start"] == pytest.approx(seconds)
    assert seconds > 0


def test_trackers_and_callbacks_see_our_metrics_beside_trls(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(preset="masa")
    trainer.train()
    logged = trainer.state.log_history[0]
    assert {"reward", "frac_reward_zero_std", "completions/mean_length", "num_tokens", "reward/meta"} <= set(logged)
