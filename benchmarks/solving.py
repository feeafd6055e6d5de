"""What prediction saves when questions are answered: accuracy against tokens, by strategy of `masa solve`.

    python benchmarks/solving.py MODEL [--data bundled] [--problems 300] [--tuning 150] [--seeds 5] [--samples 16]
        [--predictions 4] [--draws FOLDER] [--output benchmarks/results/DATE-solving-NAME] [--chart FILE]
        [--max-tokens N] [--meta-prompt NAME] [--threads 1] [--bf16]

MODEL and data as for `masa eval` (a run folder, a folder, a Hub id; a name, a file, a training config). Of each problem
16 solutions and 4 predictions a seed are drawn once, into a folder that a second call goes on with; then the strategies
are replayed over them, with the code that answers questions. Knobs are chosen on the last `--tuning` problems, which
are apart from those measured: of the settings that are no worse there than a vote of 8, the one that spends least.
Writes OUTPUT.json and .md, and with --chart a page that shows accuracy against tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from solving_draws import draw
from solving_measure import (
    Corrected,
    Means,
    Replay,
    Spent,
    fit_corrected,
    fit_told,
    graded_votes,
    hindsight,
    interval,
    oracle,
    tokens_to,
)
from solving_report import write

from masa.awareness import SelfPredictor
from masa.awareness.predictors import Predictor
from masa.cli.evaluation_data import NamedSet, find_sets
from masa.cli.loading import find_model
from masa.cli.measuring import Measuring, Options, prepare
from masa.cli.spending import Spending
from masa.errors import UserError
from masa.runs.folder import package_versions
from masa.solving import Strategy, learn_stopping
from masa.solving.worth import LEAST_GAIN

VOTES = 8
"""Of the uniform vote that the others are held against."""
TUNING_SEEDS = 3
"""Draw sets of the tuning problems that are looked at."""
THRESHOLDS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
BUDGETS = (1, 1.5, 2, 3, 4, 6, 8, 12)
"""Mean samples that a budget pays for."""
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "adaptive": {"threshold": THRESHOLDS, "samples": (8, 16)},
    "learned": {"least_gain": (0.001, 0.002, 0.003, 0.004, 0.006, 0.01), "samples": (8, 16)},
    "predicted": {
        "predictions": (1, 4),
        "corrected": (False, True),
        "rival": (0.1, 0.5),
        "least_gain": (0.0025, 0.01, 0.04),
    },
    "both": {
        "predictions": (1, 4),
        "corrected": (False, True),
        "rival": (0.1, 0.5),
        "least_gain": (0.0025, 0.02),
        "threshold": (0.7, 0.8, 0.9),
        "samples": (8, 16),
    },
}
"""What is tried of each strategy."""

Setting = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found."""

    setting: Setting
    """The cheapest that is as accurate as asked, else the most accurate."""
    there: Spent
    """What it came to on the tuning problems."""
    front: list[Setting]
    """Settings than which none there was as cheap and as accurate, the cheapest first."""
    tried: int


class Bench:
    """Strategies by their settings, over some draws."""

    def __init__(self, measuring: Measuring, tuning: Replay, samples: int, grids: Mapping[str, Any]) -> None:
        self.measuring, self.samples, self.grids = measuring, samples, grids
        self.tuning = tuning
        self.corrected = {count: fit_corrected(tuning, count, samples) for count in range(1, measuring.options.m + 1)}

        self.told: Corrected | None = None

    def strategy(self, name: str, setting: Mapping[str, Any], learnt_from: Replay | None = None) -> Strategy:
        """A strategy of `masa solve`, with the knobs that it has in Python alone.

        Args:
            name: of the strategy.
            setting: its knobs.
            learnt_from: by default all tuning problems.
        """
        if name == "learned":
            most = int(setting.get("samples", self.samples))
            votes = graded_votes(learnt_from or self.tuning, self.samples)
            return Strategy(most, learn_stopping(votes, most, least_gain=setting.get("least_gain", LEAST_GAIN)))
        options = {key: setting[key] for key in ("threshold", "predictions") if key in setting}
        spending = Spending(strategy=name, samples=int(setting.get("samples", self.samples)), **options)
        made = spending.make(self.measuring)
        if made.foretelling is None:
            return made
        knobs = {key: setting[key] for key in ("trust", "rival", "least_gain") if key in setting}
        predictor: Predictor = self.corrected[spending.m] if setting.get("corrected") else SelfPredictor()
        if setting.get("told") and self.told is not None:
            predictor = self.told
        return replace(made, foretelling=replace(made.foretelling, predictor=predictor, **knobs))

    def settings(self, name: str) -> Iterator[Setting]:
        """All that are tried."""
        grid = self.grids[name]
        for values in itertools.product(*grid.values()):
            setting = dict(zip(grid, values, strict=True))
            within = setting.get("samples", 1) <= self.samples
            if within and setting.get("predictions", 0) <= self.measuring.options.m:
                yield setting

    def _on_tuning(self, name: str, setting: Setting) -> Spent:
        """Its answers to the tuning problems; what is learnt is learnt from the other half of them."""
        if name != "learned":
            return self.tuning.run(self.strategy(name, setting))
        count = len(self.tuning.data.problems)
        halves = [self.tuning.part(*ends, self.tuning.seeds) for ends in ((0, count // 2), (count // 2, count))]
        return Spent.beside(
            [one.run(self.strategy(name, setting, other)) for one, other in zip(halves, halves[::-1], strict=True)]
        )

    def tune(self, name: str, least: float) -> Tuned:
        """All settings tried on problems apart, and what they say of which to take."""
        tried = [(setting, self._on_tuning(name, setting)) for setting in self.settings(name)]
        enough = [one for one in tried if one[1].accuracy >= least - 1e-9]
        if enough:
            chosen = min(enough, key=lambda one: one[1].cost)
        else:
            chosen = max(tried, key=lambda one: (one[1].accuracy, -one[1].cost))
        front: list[tuple[Setting, Spent]] = []
        for one in sorted(tried, key=lambda one: (one[1].cost, -one[1].accuracy)):
            if not front or one[1].accuracy > front[-1][1].accuracy:
                front.append(one)
        return Tuned(*chosen, [setting for setting, _ in front], len(tried))


def distinct(one: NamedSet, limit: int) -> NamedSet:
    """The first problems whose texts differ, under new keys."""
    found = list({problem.text: problem for problem in one.problems}.values())[:limit]
    return replace(one, problems=tuple(replace(problem, key=key) for key, problem in enumerate(found)))


def against(one: Spent, other: Spent) -> dict[str, Any]:
    """Accuracy and tokens beside another strategy's on the same draws, with intervals over problems."""
    return {
        "accuracy": one.accuracy,
        "accuracy_interval": interval([one], lambda some: some[0].accuracy),
        "difference": one.accuracy - other.accuracy,
        "difference_interval": interval([one, other], lambda some: some[0].accuracy - some[1].accuracy),
        "tokens": one.cost,
        "ratio": one.cost / other.cost,
        "ratio_interval": interval([one, other], lambda some: some[0].cost / some[1].cost),
        "prediction_tokens": float(one.meta.mean()),
        "samples": float(one.samples.mean()),
        "by_seed": [
            {"accuracy": float(right.mean()), "difference": float(right.mean() - its.mean()), "tokens": float(t.mean())}
            for right, its, t in zip(one.correct, other.correct, one.tokens, strict=True)
        ],
    }


def curve(points: Sequence[Spent], target: Spent) -> dict[str, Any]:
    """Points of a curve, and where it comes to the target's accuracy, as a share of the target's tokens."""

    def share(some: Sequence[Spent | Means]) -> float | None:
        tokens = tokens_to(some[:-1], some[-1].accuracy)
        return None if tokens is None else tokens / some[-1].cost

    return {
        "points": [{"tokens": one.cost, "accuracy": one.accuracy} for one in points],
        "share_to_target": share([*points, target]),
        "share_interval": interval([*points, target], share),
    }


def measure(bench: Bench, measured: Replay, samples: int) -> dict[str, Any]:
    """All figures."""

    def uniform(replay: Replay, n: int) -> Spent:
        return replay.run(bench.strategy("uniform", {"samples": n}))

    votes = min(VOTES, samples)
    least = uniform(bench.tuning, votes)
    solutions = [
        [measured.solve(bench.strategy("uniform", {"samples": n}), seed) for seed in measured.seeds]
        for n in range(1, samples + 1)
    ]
    plain = [measured.spent(some) for some in solutions]
    target = plain[votes - 1]
    budgets = [factor * plain[0].cost for factor in BUDGETS if factor <= samples]
    strategies: dict[str, Any] = {"uniform": {"setting": {"samples": votes}, **against(target, target)}}
    curves = {"uniform": curve(plain, target)}
    fronts: dict[str, Any] = {"uniform": curves["uniform"]}
    bench.told = fit_told(measured, samples)
    for name in bench.grids:
        start = time.monotonic()
        tuned = bench.tune(name, least.accuracy)
        strategies[name] = {
            "setting": tuned.setting,
            "tried": tuned.tried,
            "on_tuning": {"accuracy": tuned.there.accuracy, "of_target": tuned.there.cost / least.cost},
            **against(measured.run(bench.strategy(name, tuned.setting)), target),
        }
        strategies[f"{name}, untuned"] = {"setting": {}, **against(measured.run(bench.strategy(name, {})), target)}
        if name not in ("adaptive", "learned"):
            told = tuned.setting | {"told": True}
            strategies[f"{name}, told the truth"] = {
                "setting": told,
                **against(measured.run(bench.strategy(name, told)), target),
            }
        fronts[name] = curve([measured.run(bench.strategy(name, setting)) for setting in tuned.front], target)
        fronts[name]["settings"] = tuned.front
        # The vote may go on to the most samples: the budget says when it ends.
        open_end = bench.strategy(name, tuned.setting | {"samples": samples})
        curves[name] = curve([measured.run(open_end, budget=budget) for budget in budgets], target)
        say(f"{name}: {tuned.setting}, {time.monotonic() - start:.0f} s")
    allocated = oracle(measured, solutions, samples, budgets)
    curves["oracle allocation"] = curve(allocated, target)
    late = hindsight(measured, solutions, votes)
    strategies["hindsight"] = {"setting": {"samples": votes}, **against(late, target)}
    return {
        "votes": votes,
        "tuning_target": {"accuracy": least.accuracy, "tokens": least.cost},
        "budgets": budgets,
        "strategies": strategies,
        "curves": curves,
        "fronts": fronts | {"oracle allocation": curves["oracle allocation"]},
    }


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Draws, tunes, measures, writes."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model")
    options.add_argument("--data", default="bundled")
    options.add_argument("--problems", type=int, default=300)
    options.add_argument("--tuning", type=int, default=150)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--samples", type=int, default=16)
    options.add_argument("--predictions", type=int, default=4)
    options.add_argument("--max-tokens", type=int)
    options.add_argument("--meta-prompt")
    options.add_argument("--draws", type=Path, help="folder; default: runs/solving-MODEL")
    options.add_argument("--output", type=Path, help="default: benchmarks/results/DATE-solving-MODEL")
    options.add_argument("--grid", type=json.loads, default=GRIDS, help="JSON in place of GRIDS: what is tried")
    options.add_argument("--chart", type=Path, help="page with the chart, besides")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--bf16", action="store_true", default=None)
    options.add_argument("--batch-size", type=int, default=512)
    given = options.parse_args()
    name = Path(given.model).name
    model = find_model(given.model)
    wanted = given.problems + given.tuning
    # Twice as many, since small levels of the bundled mix repeat themselves.
    (data,) = find_sets(given.data, model, data_dir=None, limit=2 * wanted)
    data = distinct(data, wanted)
    if len(data.problems) <= given.tuning:
        raise UserError(
            f"{given.data} has {len(data.problems)} problems, which leaves none beside --tuning {given.tuning}"
        )
    measuring = prepare(
        "solving",
        given.model,
        Options(
            n=given.samples,
            m=given.predictions,
            max_tokens=given.max_tokens,
            meta_prompt=given.meta_prompt,
            batch_size=given.batch_size,
            threads=given.threads,
            bf16=given.bf16,
            output=given.draws or Path("runs") / f"solving-{name}",
        ),
        [data],
    )
    policy = measuring.load()
    prepared = measuring.prepared(data, policy)
    seeds = range(given.seeds)
    draws = draw(
        policy,
        prepared,
        measuring.folder(),
        seeds=seeds,
        samples=given.samples,
        predictions=given.predictions,
        tell=say,
    )
    whole = Replay(draws, prepared, tuple(seeds))
    border = len(data.problems) - given.tuning
    measured, tuning = whole.part(0, border, seeds), whole.part(border, len(data.problems), seeds[:TUNING_SEEDS])
    found = measure(Bench(measuring, tuning, given.samples, given.grid), measured, given.samples)
    result = {
        "model": name,
        "data": given.data,
        "problems": border,
        "tuning_problems": given.tuning,
        "tuning_seeds": min(TUNING_SEEDS, given.seeds),
        "seeds": len(seeds),
        "samples": given.samples,
        "predictions": given.predictions,
        "settings": measuring.settings(),
        "versions": package_versions(),
        "grid": given.grid,
        **found,
    }
    output = given.output or Path(__file__).parent / "results" / f"{datetime.now(UTC):%Y-%m-%d}-solving-{name}"
    output.with_suffix(".json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    write(result, output.with_suffix(".md"), given.chart)
    say(f"{output}.json, .md")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
