"""The coverage-guided fuzzer over everything that reads what a model or a stranger wrote.

    python tests/fuzz/run.py --minutes 20 [--targets prediction answers] [--keep-going]

It fails on the first exception and on the first input that takes over two seconds; with `--keep-going` it notes them
and goes on, and fails at its end. Inputs that reach new code are kept outside the repository, for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "hostile"))

from hostile_texts import CONFIGS, HOSTILE, ROWS, RUN_FILES  # noqa: E402

SHARES = {
    "prediction": 4,
    "answers": 3,
    "choice": 2,
    "literal": 2,
    "mathematics": 3,
    "config": 2,
    "dataset": 2,
    "report": 1,
    "rollouts": 1,
}
"""Parts of the time."""

_WORDS = dict.fromkeys(("answers", "choice", "literal", "mathematics"), "text")
"""Targets whose words are those of another file."""
_LONGEST, _LONGEST_FILE = 300, 1200
"""Bytes of an input: short ones are quick, and an input may ask to be repeated."""
_STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)")


def main() -> int:
    """Runs the targets one after the other and says what came of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=20, help="of all targets together")
    options.add_argument("--targets", nargs="+", choices=list(SHARES), default=list(SHARES))
    options.add_argument("--corpus", type=Path, default=Path.home() / ".cache" / "masa-fuzz")
    options.add_argument("--keep-going", action="store_true", help="note findings and go on")
    given = options.parse_args()
    corpus = given.corpus.resolve()
    if corpus.is_relative_to(HERE.parents[1]):
        options.error("--corpus must lie outside the repository")
    whole = sum(SHARES[name] for name in given.targets)
    total = failures = 0
    for name in given.targets:
        seconds = max(5, int(given.minutes * 60 * SHARES[name] / whole))
        inputs, findings = fuzz(name, corpus, seconds, given.keep_going)
        total += inputs
        failures += findings
        if findings and not given.keep_going:
            break
    print(f"{total:,} inputs, {failures} findings; corpus and findings in {corpus}")
    return 1 if failures else 0


def fuzz(name: str, corpus: Path, seconds: int, keep_going: bool) -> tuple[int, int]:
    """One target for so many seconds; the number of inputs and of findings."""
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    record = corpus / f"{name}.json"
    record.unlink(missing_ok=True)
    longest = _LONGEST_FILE if name in ("config", "dataset", "report") else _LONGEST
    _write_seeds(name, folder, longest)
    command = [
        sys.executable,
        str(HERE / "one.py"),
        name,
        str(record),
        str(int(keep_going)),
        f"-max_total_time={seconds}",
        f"-dict={HERE / 'words' / _WORDS.get(name, name)}.dict",
        "-timeout=60",  # of the clock: what hangs
        "-rss_limit_mb=4096",
        f"-max_len={longest}",
        f"-artifact_prefix={corpus}/{name}-",
        str(folder),
    ]
    first: tuple[int, int] | None = None
    last = (0, 0)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
    )
    assert process.stdout is not None
    with (corpus / f"{name}.log").open("w") as log:
        for line in process.stdout:
            log.write(line)
            if status := _STATUS.search(line):
                last = int(status[3]), int(status[4])
                first = first or last
            elif line.startswith(("FINDING", "Traceback", "ALARM", "==")) or "ERROR: libFuzzer" in line:
                print(line.rstrip(), flush=True)
    code = process.wait()
    told = json.loads(record.read_text()) if record.exists() else {"inputs": 0, "slowest": 0, "findings": {}}
    findings = len(told["findings"]) or int(code != 0)
    print(
        f"{name}: {told['inputs']:,} inputs in {seconds} s, coverage {(first or last)[0]} to {last[0]} edges, "
        f"features {(first or last)[1]} to {last[1]}, slowest {told['slowest']} s, findings {findings}",
        flush=True,
    )
    return told["inputs"], findings


def _write_seeds(name: str, folder: Path, longest: int) -> None:
    texts = {key: b"\0" + text.encode("utf-8", "surrogatepass") for key, text in HOSTILE.items()}
    rows = {key: b"\0" + data for key, data in ROWS.items()} | {
        f"{key} as a list": b"\1" + data for key, data in ROWS.items()
    }
    seeds = {"config": CONFIGS, "dataset": rows, "report": RUN_FILES}.get(name, texts)
    for number, data in enumerate(seeds.values()):
        (folder / f"seed-{number}").write_bytes(data[:longest])


if __name__ == "__main__":
    sys.exit(main())
