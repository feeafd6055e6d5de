"""The folder of an evaluation: settings, every answer, the figures. Work that is done is never done again.

evaluation.yaml              settings; under `run`: versions
answers/SET-NNNN.jsonl.gz    every answer to some consecutive problems of a data set, one whole file
result.json                  the figures, once all answers are there
report.html                  written by others
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from masa.errors import UserError
from masa.runs.atomic import atomic_write_bytes, atomic_write_text
from masa.runs.folder import CONFIG, METRICS, RUN_KEY, package_versions
from masa.runs.jsonlines import Row, differing, gzip_rows, plain, read_gzipped_rows, without_nonfinite
from masa.yaml_values import read_mapping

SETTINGS, ANSWERS, RESULT = "evaluation.yaml", "answers", "result.json"


class AnswerFolder:
    """One evaluation's folder, new or half done.

    Args:
        path: made if it does not exist.
        settings: all that the answers depend on; a folder with other ones is refused.
        may_differ: settings (dotted names) that may have changed meanwhile.

    Raises:
        UserError: if the folder holds something else: a run, or an evaluation with other settings.
    """

    def __init__(
        self, path: str | os.PathLike[str], settings: Mapping[str, Any], *, may_differ: Collection[str] = ()
    ) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"output {self.path} is a file, not a folder: name another one with --output")
        wanted = plain(settings)
        if self._settings_path.exists():
            self._check(wanted, may_differ)
            return
        for name in (CONFIG, METRICS, ANSWERS):
            if (self.path / name).exists():
                raise UserError(f"output folder {self.path} holds something else ({name}): name another with --output")
        (self.path / ANSWERS).mkdir(parents=True)
        run = {RUN_KEY: {"versions": package_versions()}}
        text = yaml.safe_dump(wanted | run, sort_keys=False, allow_unicode=True, width=120)
        atomic_write_text(self._settings_path, text)

    @property
    def result_path(self) -> Path:
        """The figures."""
        return self.path / RESULT

    @property
    def report_path(self) -> Path:
        """The page, where there is one."""
        return self.path / "report.html"

    def read(self, data: str, chunk: int) -> list[Row] | None:
        """All answers of one chunk of a data set; None where they are not there yet.

        Raises:
            UserError: if the file is damaged.
        """
        path = self._chunk_path(data, chunk)
        return read_gzipped_rows(path) if path.exists() else None

    def write(self, data: str, chunk: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes all answers of one chunk as one whole file; the same rows give the same bytes."""
        path = self._chunk_path(data, chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(path, gzip_rows(rows))

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes the figures."""
        cleaned, _ = without_nonfinite(plain(result))
        atomic_write_text(self.result_path, json.dumps(cleaned, indent=2, allow_nan=False) + "\n")

    @property
    def _settings_path(self) -> Path:
        return self.path / SETTINGS

    def _chunk_path(self, data: str, chunk: int) -> Path:
        return self.path / ANSWERS / f"{file_name(data)}-{chunk:04d}.jsonl.gz"

    def _check(self, wanted: Mapping[str, Any], may_differ: Collection[str]) -> None:
        there = read_mapping(self._settings_path, "evaluation")
        there.pop(RUN_KEY, None)
        changed = differing(there, wanted, may_differ)
        if changed:
            shown = "; ".join(changed[:6]) + ("; ..." if len(changed) > 6 else "")
            raise UserError(
                f"{self.path} holds an evaluation with other settings ({shown}): use the same ones to go on with it, "
                "or name another folder with --output"
            )


def read_answers(path: Path) -> tuple[dict[str, Any], Iterator[Row]]:
    """The settings of an evaluation's folder, and its answers, one row a rollout.

    Raises:
        UserError: if there is no evaluation, or a file is damaged.
    """
    settings = read_mapping(path / SETTINGS, "evaluation")
    files = sorted((path / ANSWERS).glob("*.jsonl.gz"))
    return settings, itertools.chain.from_iterable(map(read_gzipped_rows, files))


def file_name(text: str) -> str:
    """A text as part of a file's name: other characters than letters, digits, `.`, `-` and `_` become `-`."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "data"
