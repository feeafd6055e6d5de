"""What a run leaves behind: its folder, metrics, evaluations, rollouts and ledger. No torch."""

from masa.runs.atomic import atomic_write_bytes, atomic_write_text
from masa.runs.folder import RUN_KEY, RunFolder, package_versions, read_evaluations, read_metrics, read_rollouts
from masa.runs.ledger import Ledger

__all__ = [
    "RUN_KEY",
    "Ledger",
    "RunFolder",
    "atomic_write_bytes",
    "atomic_write_text",
    "package_versions",
    "read_evaluations",
    "read_metrics",
    "read_rollouts",
]
