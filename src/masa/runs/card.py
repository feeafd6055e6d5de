"""The model card of a run's model: what it can do, what it knows of that, and what it took. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from masa.runs.atomic import atomic_write_text
from masa.runs.folder import RUN_KEY, RunFolder

CARD = "README.md"
TAGS = ("generated_from_trainer", "trl", "grpo", "masa")
_FORETELLS = "meta-awareness"
"""Tag of models that learnt to foretell themselves."""

CITATION = """@misc{kim2025masa,
  title         = {Meta-Awareness Enhances Reasoning Models: Self-Alignment Reinforcement Learning},
  author        = {Kim, Yoonjeon and Jang, Doohyuk and Yang, Eunho},
  year          = {2025},
  eprint        = {2510.03259},
  archivePrefix = {arXiv},
  note          = {Version 2 (2026): Verifying Meta-Awareness via Predictive Rewards in Reasoning Models}
}
@article{shao2024deepseekmath,
  title  = {{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models},
  author = {Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and others},
  year   = {2024},
  eprint = {2402.03300}
}
@software{vonwerra2020trl,
  title  = {{TRL}: Transformers Reinforcement Learning},
  author = {von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and Beeching, Edward and others},
  url    = {https://github.com/huggingface/trl},
  year   = {2020}
}"""

_SHARES = (("valid predictions", "valid_share"),)
_NUMBERS = (
    ("Spearman, foretold and true pass rate", "pass_rate_spearman"),
    ("Brier score of the foretold pass rate", "brier"),
    ("calibration error of the foretold pass rate", "ece"),
    ("Spearman, foretold and true length", "length_spearman"),
)
_SETTINGS = (
    *(
        "preset",
        "problems_per_step",
        "num_generations",
        "num_meta_generations",
        "gate",
        "cutoff",
        "expert_sft",
        "hints",
    ),
    *("max_completion_length", "learning_rate", "seed"),
)


def write_card(run: RunFolder, folder: Path, **options: Any) -> Path:
    """Writes the card into a model's folder, made if it is missing; options are those of `model_card`."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / CARD, model_card(run, **options))
    return folder / CARD


def model_card(
    run: RunFolder,
    *,
    name: str | None = None,
    base_model: str | None = None,
    dataset: str | None = None,
    tags: Sequence[str] = (),
) -> str:
    """The card in Markdown, its head in YAML as the Hub reads it.

    Figures are those of the run's held-out evaluations, the first beside the last; without any, those of the last
    step's window of training problems. A figure that the run does not have is left out.

    Args:
        run: the run that trained the model.
        name: the model's; default: the folder's.
        base_model: Hub id of the model it came from; default: the run's `model`, if that is one.
        dataset: Hub id of the training data.
        tags: beside `TAGS`.
    """
    config = run.read_config()
    base_model = base_model or _hub_id(config.get("model"))
    head: dict[str, Any] = {
        "library_name": "transformers",
        "tags": list(dict.fromkeys([*TAGS, *([_FORETELLS] if _foretells(config) else []), *tags])),
        "base_model": base_model,
        "datasets": dataset,
    }
    head = {key: value for key, value in head.items() if value}
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(name or run.path.resolve().name)}",
        _origin(config, base_model),
        *_figures(run),
        *_ledger(run.read_ledger()),
        *_facts(config),
        f"## Citations\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(config: Mapping[str, Any], base_model: str | None) -> str:
    base = f" from [{base_model}](https://huggingface.co/{base_model})" if base_model else ""
    chooses = config.get("gate") not in (None, "none")
    how = "GRPO on experience that the policy helps to choose" if chooses else "GRPO"
    asked = (
        " Asked for it by the meta prompt, the model foretells its own pass rate, the length of its solution and the "
        "notions it will use."
    )
    return (
        f"Trained{base} with MASA, preset `{_plain(config.get('preset', '?'))}`: {how} "
        "([arXiv 2510.03259](https://arxiv.org/abs/2510.03259)), on top of [TRL](https://github.com/huggingface/trl)."
        + (asked if _foretells(config) else "")
    )


def _foretells(config: Mapping[str, Any]) -> bool:
    return bool(config.get("num_meta_generations"))


def _figures(run: RunFolder) -> list[str]:
    """The table of accuracy and awareness."""
    evaluations = run.read_evaluations()
    if evaluations:
        first, last = evaluations[0], evaluations[-1]
        columns = [first, last] if last["step"] != first["step"] else [last]
        where = (
            f"On {last['problems']} held-out problems, {last['samples_per_problem']} answers each; "
            "95 % intervals over problems."
        )
    else:
        columns = [
            {name.removeprefix("awareness/"): value for name, value in row.items()} for row in run.read_metrics()[-1:]
        ]
        where = "On the last training problems, the model still changing: nothing was held out."
    if not columns:
        return []
    lines = [
        ["", *(f"step {row['step']}" for row in columns)],
        ["---", *("---:" for _ in columns)],
        ["pass@1", *(_accuracy(row) for row in columns)],
        *([title, *(_number(row.get(key)) for row in columns)] for title, key in _NUMBERS),
        *([title, *(_share(row.get(key)) for row in columns)] for title, key in _SHARES),
    ]
    kept = [line for line in lines if any(cell != "-" for cell in line[1:])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in kept)
    return ["## What it can do, and what it knows of it", where, table]


def _ledger(ledger: Mapping[str, Any]) -> list[str]:
    """Where the tokens went, and what gate and cutoff saved of them, net of the predictions."""
    if not ledger:
        return []
    kinds = {"solutions": "solution", "predictions": "meta", "audits": "audit", "warm start": "warm_start"}
    spent = [f"{ledger[f'{kind}_tokens']:,} for {title}" for title, kind in kinds.items() if ledger[f"{kind}_tokens"]]
    said = f"{ledger['generated_tokens']:,} tokens were generated in {ledger['steps']:,} steps"
    text = f"{said}: {', '.join(spent)}." if spent else f"{said}."
    if ledger["meta_tokens"] or ledger["saved_gate_tokens"] or ledger["saved_cutoff_tokens"]:
        text += (
            f" Estimated from audits, the gate saved {ledger['saved_gate_tokens']:,.0f} and the cutoff "
            f"{ledger['saved_cutoff_tokens']:,.0f}; net of the predictions {ledger['net_saved_tokens']:,.0f} tokens"
            f"{' (they cost more than was saved)' if ledger['net_saved_tokens'] < 0 else ''}."
        )
    return ["## What it took", text]


def _facts(config: Mapping[str, Any]) -> list[str]:
    """Settings and versions."""
    settings = "\n".join(f"- `{key}`: {_plain(config[key])}" for key in _SETTINGS if config.get(key) is not None)
    versions = (config.get(RUN_KEY) or {}).get("versions") or {}
    named = ", ".join(f"{key} {_plain(value)}" for key, value in versions.items())
    return [f"## Settings\n\n{settings}"] * bool(settings) + [f"Versions: {named}."] * bool(named)


def _accuracy(row: Mapping[str, Any]) -> str:
    rate = row.get("pass_at_1", row.get("pass_rate"))
    low, high = row.get("pass_at_1_low"), row.get("pass_at_1_high")
    if rate is None or low is None or high is None:
        return _share(rate)
    return f"{_share(rate)} ({100 * low:.1f}..{100 * high:.1f})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _hub_id(model: Any) -> str | None:
    """A model's name where it can only be a Hub id."""
    text = str(model or "")
    is_path = text.startswith((".", "/", "~")) or Path(text).exists()
    return text if text.count("/") == 1 and not is_path else None


def _plain(value: Any) -> str:
    """A value as text that Markdown and HTML take for nothing else."""
    text = " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
