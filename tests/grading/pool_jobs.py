"""What the workers of the pool's tests do with an answer, told by its text."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def act(text: str, golds: list[str], stated: bool, settings: Any) -> Any:
    """`hang` in C, `die`, `die once FILE`, `slow`, or the answer itself as the reason."""
    word, _, rest = text.partition(" ")
    if word == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        _ = 9 ** (9**9)  # one operation that Python cannot interrupt
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "once" and not Path(rest).exists():
        Path(rest).touch()
        os._exit(3)
    if word == "slow":
        time.sleep(0.4)
    if word == "print":
        print("[true, null, 'a lie']", flush=True)
    return [text == golds[0], text, text]
