"""A few problems in verl's form, and the lines that switch the plug-in on."""

import json
from pathlib import Path

QUESTIONS = ("What is 2+3?", "What is 7-4?", "What is 6*7?", "What is 9-9?")
ANSWERS = ("5", "3", "42", "0")

PLUGIN = (
    "trainer.v1.trainer_mode=masa",
    "reward.reward_manager.name=masa",
    "data.custom_cls.path=pkg://masa.integrations.verl",
    "data.custom_cls.name=MASADataset",
)
"""The lines of docs/verl.md that switch the plug-in on."""


def row(question, answer, **columns):
    return {
        "data_source": "sums",
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question + " Box it."}],
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"question": question, "kind": "math"},
        **columns,
    }


def write_rows(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)
