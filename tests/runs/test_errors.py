"""The wording for unknown names, and that light parts stay light."""

from __future__ import annotations

import subprocess
import sys

from masa.errors import nearest, unknown_key_message


def test_the_nearest_name_is_offered() -> None:
    known = ["learning_rate", "gate_std", "cutoff_factor"]
    assert nearest("learning_rte", known) == "learning_rate"
    assert nearest("GATE_STD", known) == "gate_std"
    assert nearest("zzz", known) is None
    message = unknown_key_message("setting", "gate_sdt", known, where="run.yaml")
    assert message == "unknown setting 'gate_sdt' in run.yaml: did you mean 'gate_std'?"
    assert "known: cutoff_factor" in unknown_key_message("setting", "zzz", known)


def test_runs_grading_and_tasks_import_without_torch() -> None:
    code = (
        "import sys, masa.runs, masa.grading, masa.grading.reward, masa.tasks.dataset\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'sympy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
