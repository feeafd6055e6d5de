"""The site builds strictly: no broken link, no missing anchor, no page left out of the navigation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pages import ROOT


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    example = (tmp_path / "site" / "examples" / "index.html").read_text(encoding="utf-8")
    assert "LastGroup" in example, "scripts are put into the page"
    assert not (tmp_path / "site" / "generate.py").exists()
