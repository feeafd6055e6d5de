"""Other people's data sets, where they lie beside the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of a file, by its name without ending; the test is skipped where it is missing."""
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"data of other people is not here ({path})")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
