"""One target under the coverage-guided fuzzer, in a process of its own, since the fuzzer ends its process.

python one.py TARGET RECORD KEEP_GOING [libFuzzer's options and corpus]
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

import atheris

LIMIT = 2.0
"""Seconds of processor time that one input may take."""
READERS = ("yaml.parser", "yaml.composer", "yaml.resolver", "yaml.constructor")
"""Whose branches lead to inputs of new kinds, beside our own; the scanner's would only make it several times slower."""
_EVERY = 500


def main() -> None:
    """Fuzzes one target until libFuzzer stops it."""
    name, record, keep_going = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1"
    with atheris.instrument_imports(include=["masa", *READERS]):
        from targets import TARGETS

        call = TARGETS[name]()
    inputs, slowest = 0, 0.0
    findings: dict[str, str] = {}

    def save() -> None:
        record.write_text(json.dumps({"inputs": inputs, "slowest": round(slowest, 3), "findings": findings}))

    def note(what: str, shown: str, data: bytes) -> None:
        if what not in findings:
            findings[what] = shown
            place = record.with_name(f"{record.stem}-finding-{len(findings)}.bin")
            place.write_bytes(data)
            save()
            print(f"FINDING {name}: {what} ({place})", flush=True)

    def one(data: bytes) -> None:
        nonlocal inputs, slowest
        inputs += 1
        if inputs % _EVERY == 0:
            save()
        # Of the processor and not of the clock, which other programs on the machine would slow down.
        began = time.process_time()
        try:
            call(data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            note(what, traceback.format_exc()[-3000:], data)
            if not keep_going:
                raise
        seconds = time.process_time() - began
        slowest = max(slowest, seconds)
        if seconds > LIMIT:
            note(f"slow, over {LIMIT} s", f"{seconds:.1f} s for {len(data)} bytes", data)
            if not keep_going:
                raise TimeoutError(f"{seconds:.1f} s for one input of {len(data)} bytes")

    atheris.Setup([sys.argv[0], *sys.argv[4:]], one)
    atheris.Fuzz()


main()
