"""What two runs have in common if one was interrupted and nothing was lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from masa.runs import RunFolder
from masa.training.checkpoint import EXPERT_OPTIMIZER_FILE, STATE_FILE


def left_behind(run: Path, step: int) -> dict[str, Any]:
    """All that a run says and holds after `step`, without times."""
    folder = RunFolder.open(run)
    state = json.loads((run / f"checkpoint-{step}" / STATE_FILE).read_text())
    ledger = folder.read_ledger()
    state["ledger"].pop("seconds")
    ledger.pop("seconds")
    return {
        "metrics": [{k: v for k, v in row.items() if not k.startswith("time/")} for row in folder.read_metrics()],
        "rollouts": [folder.read_rollouts(number) for number in folder.steps()],
        "ledger": ledger,
        **state,
    }


def tensors(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights and optimizer moments, by name."""
    folder = run / f"checkpoint-{step}"
    found = dict(load_file(folder / "model.safetensors"))
    for name in ("optimizer.pt", EXPERT_OPTIMIZER_FILE):
        if (folder / name).exists():
            state = torch.load(folder / name, weights_only=True)["state"]
            found |= {f"{name} {i} {key}": value for i, part in state.items() for key, value in part.items()}
    return found
