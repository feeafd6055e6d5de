"""What other people's scripts import."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

import masa


@pytest.mark.parametrize("name", masa.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(masa, name) is not None
    assert set(masa.__all__) == set(masa._WHERE)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'MASATrainr'"):
        masa.MASATrainr  # noqa: B018


@pytest.mark.parametrize(
    "package",
    [
        *("masa", "masa.awareness", "masa.grading", "masa.tasks.dataset", "masa.runs", "masa.records"),
        *("masa.evaluation.comparison", "masa.evaluation.run_result", "masa.report"),
        *("masa.evaluation.scores", "masa.evaluation.model_probe", "masa.cli.measuring", "masa.scaling"),
        *("masa.solving", "masa.cli.solve"),
    ],
)
def test_packages_that_need_no_torch_import_without_it(package: str) -> None:
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("package", "other"),
    itertools.permutations(("masa.report", "masa.evaluation", "masa.solving"), 2),
)
def test_reports_evaluations_and_solving_do_not_import_each_other(package: str, other: str) -> None:
    code = f"""
import importlib, pkgutil, sys, {package}
for module in pkgutil.iter_modules({package}.__path__, "{package}."):
    importlib.import_module(module.name)
sys.exit(any(name.startswith("{other}") for name in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
