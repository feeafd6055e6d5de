"""A run folder with made-up numbers of the right shape; nothing is trained."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from masa.runs import Ledger, RunFolder

STEPS, PREDICTIVE_FROM = 120, 40
EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'


def make_run(path: Path) -> RunFolder:
    """The folder of a finished run of 120 steps, three evaluations and two step files."""
    draw = random.Random(0)
    settings = {"preset": "masa-efficient", "model": "tiny", "learning_rate": 1e-4, "note": EVIL, "gate": {"std": 0.1}}
    folder = RunFolder.create(path, settings, seeds={"seed": 0})
    ledger = Ledger()
    for step in range(1, STEPS + 1):
        is_predictive = step > PREDICTIVE_FROM
        ledger.add(solution_tokens=9000 if not is_predictive else 5500, meta_tokens=1800, steps=1)
        if is_predictive:
            ledger.add(audit_tokens=300, saved_gate_tokens=3000, saved_cutoff_tokens=700)
        ledger.add_seconds(rollout=1.9, update=1.1, evaluation=0.2)
        folder.append_metrics(step, _metrics(step, is_predictive, draw, ledger))
        if step > STEPS - 2:
            folder.write_rollouts(step, _rollouts(step, draw))
    for step in (0, 60, 120):
        folder.append_evaluation(_evaluation(step, draw))
    folder.write_ledger(ledger.totals())
    return folder


def _metrics(step: int, is_predictive: bool, draw: random.Random, ledger: Ledger) -> dict[str, Any]:
    learned = 1 - math.exp(-step / 50)
    noise = draw.gauss(0, 0.05)
    live = 0.65 - 0.3 * learned + draw.gauss(0, 0.07)
    metrics = {
        "phase": "predictive" if is_predictive else "parallel",
        "pass_rate": 0.32 + 0.35 * learned + noise,
        "reward/solution": 0.32 + 0.35 * learned + noise,
        "reward/meta": 0.25 + 0.3 * learned + draw.gauss(0, 0.02),
        "reward/difficulty": 0.3 + 0.3 * learned + draw.gauss(0, 0.02),
        "reward/length": 0.3 + 0.4 * learned + draw.gauss(0, 0.03),
        "reward/notion": 0.15 + 0.1 * learned + draw.gauss(0, 0.02),
        "groups/live_share": live,
        "groups/zero_variance_share": 1 - live,
        "awareness/pass_rate_spearman": 0.7 * learned + draw.gauss(0, 0.03),
        "awareness/length_spearman": 0.6 * learned + draw.gauss(0, 0.03),
        "awareness/brier": 0.3 - 0.15 * learned,
        "awareness/ece": 0.25 - 0.15 * learned,
        "awareness/valid_share": 0.9,
        "length/mean": 70 - 15 * learned,
        "length/mean_correct": 50.0,
        "length/mean_incorrect": 80 - 5 * learned,
        "length/mean_meta": 18.0,
        "finish/stop": 0.9 + 0.05 * learned,
        "finish/length": 0.1 - 0.05 * learned - (0.03 if is_predictive else 0),
        "finish/cutoff": 0.03 if is_predictive else 0.0,
        "tokens/solution": ledger.solution_tokens,
        "tokens/meta": ledger.meta_tokens,
        "tokens/audit": ledger.audit_tokens,
        "tokens/generated": ledger.generated_tokens,
        "tokens/saved_gate": ledger.saved_gate_tokens,
        "tokens/saved_cutoff": ledger.saved_cutoff_tokens,
        "loss": draw.gauss(0, 0.02) if step != 7 else math.nan,
        "grad_norm": 0.5 + abs(draw.gauss(0, 0.1)),
        "learning_rate": 1e-4 * (1 - step / STEPS),
        "entropy/live": 0.6 - 0.2 * learned,
        "time/step": 3.2,
    }
    if is_predictive:
        metrics |= {
            "gate/share": 0.35 + draw.gauss(0, 0.06),
            "gate/precision": 0.8 + 0.1 * learned,
            "gate/recall": 0.5 + 0.1 * learned,
            "gate/base_rate": 0.55,
            "cutoff/share": 0.05,
            "cutoff/false_cut_rate": 0.01,
        }
    return metrics


def _rollouts(step: int, draw: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for key in range(16):
        rate = draw.random()
        common = {"step": step, "problem": key, "task": f"chain_sum/{key % 9 + 1}", "gated": False, "audited": key == 3}
        for i in range(8):
            correct = draw.random() < rate
            text = f"add 3 and 4 to get 7 then add 5 to get 12\n\\boxed{{{12 if correct else 13}}} {EVIL}"
            solution = {
                "text": text,
                "length": 40 + i,
                "finish_reason": "stop",
                "correct": correct,
                "reward": float(correct),
            }
            rows.append({**common, "role": "solution", "sample": i, "advantage": 0.5, "hinted": i == 0, **solution})
        said = {"pass_rate": round(rate * 8) / 8, "length": 45, "notions": ["sum", EVIL]}
        rows.append(
            {**common, "role": "meta", "sample": 0, "text": "<meta>easy</meta>", "length": 18, "prediction": said}
        )
    return rows


def _evaluation(step: int, draw: random.Random) -> dict[str, Any]:
    learned = 1 - math.exp(-step / 50)
    points = []
    for _ in range(240):
        true = min(1.0, max(0.0, draw.choice([0, 0.1, 0.5, 0.9, 1]) + 0.2 * learned))
        said = learned * true + (1 - learned) * draw.random()
        length = draw.lognormvariate(4, 0.6)
        foretold = math.exp(4 + learned * (math.log(length) - 4) + draw.gauss(0, 0.3))
        points.append([round(said, 3), round(true * 8) / 8, foretold, length if true > 0 else None])
    tasks = ("base_conversion", "chain_sum", "gcd", "number_sorting", "products")
    cells = {f"{t}/{n}": min(1.0, max(0.0, 1.1 + 0.5 * learned - n / 6)) for t in tasks for n in range(1, 10)}
    rate = 0.31 + 0.35 * learned
    return {
        "step": step,
        "pass_at_1": rate,
        "pass_at_1_low": rate - 0.04,
        "pass_at_1_high": rate + 0.04,
        "problems": 240,
        "samples_per_problem": 4,
        "awareness/pass_rate_spearman": 0.02 + 0.6 * learned,
        "length_spearman": -0.05 + 0.6 * learned,
        "brier": 0.3 - 0.1 * learned,
        "by_task": cells,
        "points": points,
    }
