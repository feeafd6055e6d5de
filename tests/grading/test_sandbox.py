"""Attacks on the sandbox: none passes, none outlives its limit, none disturbs the next program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from masa.errors import UserError
from masa.grading import CodeSettings, sandbox
from masa.grading.code import CodeTests, grade_code
from masa.grading.sandbox import isolation_fault

isolated = pytest.mark.skipif(isolation_fault() is not None, reason=str(isolation_fault()))

TESTS = CodeTests("assert f(1) == 2\nassert f(3) == 4", "f")
LIMITS = CodeSettings(seconds=2, memory_mb=256)
RIGHT = "def f(x):\n    return x + 1\n"

# Each of these would be right, or would claim to be, if what it tries worked.
ATTACKS = {
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "fork bomb in a call": "import os\ndef f(x):\n    while True:\n        try:\n            os.fork()\n"
    "        except OSError:\n            pass",
    "thread bomb": "import threading, time\ndef f(x):\n    for _ in range(1000):\n"
    "        threading.Thread(target=time.sleep, args=(9,)).start()\n    return x + 1",
    "endless output": "def f(x):\n    while True:\n        print('x' * 10000)",
    "large file": "def f(x):\n    with open('/tmp/a', 'w') as file:\n        file.write('x' * 10**8)\n    return x + 1",
    "many files": "def f(x):\n    for n in range(100):\n        with open(f'/tmp/{n}', 'w') as file:\n"
    "            file.write('x' * 10**7)\n    return x + 1",
    "many open files": "def f(x):\n    files = [open('/dev/null') for _ in range(1000)]\n    return x + 1",
    "memory bomb": "def f(x):\n    hoard = []\n    while len(hoard) < 1000:\n        hoard.append(bytearray(10**7))\n"
    "    return x + 1",
    "memory bomb in several processes": "import os, time\ndef f(x):\n    for _ in range(8):\n"
    "        if not os.fork():\n"
    "            hoard = bytearray(b'x' * 10**8)\n            time.sleep(60)\n    time.sleep(1)\n    return x + 1",
    "memory in a file that is none": "import os\ndef f(x):\n    os.memfd_create('x')\n    return x + 1",
    "shared memory": "def f(x):\n    open('/dev/shm/x', 'w')\n    return x + 1",
    "home folder": f"def f(x):\n    open({str(Path(__file__).resolve())!r})\n    return x + 1",
    "listing of home folders": "import os\ndef f(x):\n    found = [os.listdir(p) for p in ('/home', '/etc/ssh')]\n"
    "    return x + 1",
    "password file": "def f(x):\n    open('/etc/passwd')\n    return x + 1",
    "environment": "import os\ndef f(x):\n    return x + 1 if 'MASA_TEST_SECRET' in os.environ else 0",
    "environment of the first process": "def f(x):\n    open('/proc/1/environ')\n    return x + 1",
    "memory of the first process": "def f(x):\n    open('/proc/1/mem', 'r+b')\n    return x + 1",
    "files of the first process": "import os\ndef f(x):\n    os.listdir('/proc/1/fd')\n    return x + 1",
    "other processes": "import os\ndef f(x):\n    seen = [n for n in os.listdir('/proc') if n.isdigit()]\n"
    "    return x + 1 if len(seen) > 4 else 0",
    "internet": "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', 22), 1)\n    return x + 1",
    "raw socket": "import socket\ndef f(x):\n    socket.socket()\n    return x + 1",
    "network interfaces": "import socket\ndef f(x):\n    names = [name for _, name in socket.if_nameindex()]\n"
    "    return x + 1 if set(names) - {'lo'} else 0",
    "write to the system": "def f(x):\n    open('/usr/x', 'w')\n    return x + 1",
    "write to the root": "def f(x):\n    open('/x', 'w')\n    return x + 1",
    "write to the interpreter": "import os\ndef f(x):\n    open(os.__file__, 'a')\n    return x + 1",
    "write to the tester": "from masa.grading.isolated import tester\ndef f(x):\n    open(tester.__file__, 'a')\n"
    "    return x + 1",
    "kill the parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    os.kill(-1, 9)\n    os._exit(0)",
    "new namespaces": "import ctypes\ndef f(x):\n    return x + 1 + ctypes.CDLL(None).unshare(0x10000000)",
    "become root": "import os\ndef f(x):\n    os.setuid(0)\n    return x + 1",
    "being root": "import os\ndef f(x):\n    return x + 1 if os.getuid() == 0 else 0",
    "capabilities": "def f(x):\n    own = [line.split()[1] for line in open('/proc/self/status') if 'CapEff' in line]\n"
    "    return x + 1 if int(own[0], 16) else 0",
    "exit before the tests": "import os\nos._exit(0)",
    "exit in a call": "import os\ndef f(x):\n    os._exit(0)",
    "exit politely": "import sys\nsys.exit(0)",
    "equal to all": "class A:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()",
    "number equal to all": "class A(int):\n    def __eq__(self, other):\n        return True\n"
    "    __hash__ = int.__hash__\ndef f(x):\n    return A(7)",
    "text equal to all": "class A(str):\n    def __eq__(self, other):\n        return True\n"
    "    __hash__ = str.__hash__\ndef f(x):\n    return A()",
    "error with a hostile text": "class E(Exception):\n    def __str__(self):\n        raise E\n"
    "    __repr__ = __str__\ndef f(x):\n    raise E",
    "exit handler": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x):\n    raise SystemExit(0)",
    "list equal to all": "class A(list):\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return A()",
    "replaced built-ins": "import builtins\nfor name in ('compile', 'exec', 'AssertionError', 'isinstance'):\n"
    "    setattr(builtins, name, lambda *args: None)\ndef f(x):\n    return 0",
    "replaced tester": "import sys\nfor name, module in list(sys.modules.items()):\n    if 'tester' in name:\n"
    "        module._Verdict.give = lambda self, *args: None\n        module.run_functions = lambda *args: None\n"
    "def f(x):\n    return 0",
    "fake success line": "import os\nfor n in range(20):\n    try:\n"
    '        os.write(n, b\'{"passed": true, "reason": "passed every test"}\\n\')\n    except OSError:\n        pass\n'
    "os._exit(0)",
    "fake messages": "import os, struct\nm = b'{\"value\": 2}'\nfor n in range(20):\n    try:\n"
    "        os.write(n, (struct.pack('>I', len(m)) + m) * 9)\n    except OSError:\n        pass\n"
    "def f(x):\n    return 0",
    "garbage messages": "import os\nfor n in range(20):\n    try:\n        os.write(n, b'\\xff' * 99)\n"
    "    except OSError:\n        pass\ndef f(x):\n    return 0",
    "deep message": "import os, struct\nm = b'[' * 200000\nfor n in range(20):\n    try:\n"
    "        os.write(n, struct.pack('>I', len(m)) + m)\n    except OSError:\n        pass\ndef f(x):\n    return 0",
    "sleep": "import time\ndef f(x):\n    time.sleep(1000)\n    return x + 1",
    "descriptors that were left open": "import os\ndef f(x):\n"
    "    seen = [n for n in os.listdir('/proc/self/fd') if int(n) > 7]\n"
    "    return x + 1 if len(seen) > 1 else 0",
    "ignore signals": "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError):\n        pass\ndef f(x):\n    while True:\n        pass",
    "recursion": "def f(x):\n    return f(x)",
    "recursion bomb": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return f(x) + 1",
    "deep value": "def f(x):\n    value = []\n    for _ in range(100000):\n        value = [value]\n    return value",
    "cyclic value": "def f(x):\n    value = []\n    value.append(value)\n    return value",
    "huge number": "def f(x):\n    return 10**1000000",
    "daemon": "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        time.sleep(1000)\n"
    "    os._exit(0)\ndef f(x):\n    return 0",
    "what the tests want, in memory": "import gc\ndef f(x):\n"
    "    texts = [o for o in gc.get_objects() if isinstance(o, dict)]\n"
    "    return x + 1 if any('assert ' + 'f(1)' in repr(o)[:10000] for o in texts) else 0",
    "what the tests want, on standard input": "import sys\ndef f(x):\n    return x + 1 if sys.stdin.read() else 0",
}


@isolated
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASA_TEST_SECRET", "hunter2")
    start = time.monotonic()
    verdict = grade_code(f"```python\n{ATTACKS[attack]}\n```", TESTS, LIMITS)
    seconds = time.monotonic() - start
    assert not verdict.correct, verdict
    assert verdict.extracted is not None
    assert seconds < LIMITS.seconds + 6
    assert _left_behind() == []
    assert grade_code(RIGHT, TESTS, LIMITS).correct


def _left_behind() -> list[str]:
    """Sandboxes that this process started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"isolated.tester" in (entry / "cmdline").read_bytes():
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if parent in (str(os.getpid()), "1"):
                    found.append(entry.name)
        except OSError:
            continue
    return found


@isolated
def test_attacks_side_by_side_do_not_disturb_others() -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"```python\n{ATTACKS['fork bomb']}\n```", RIGHT, RIGHT, RIGHT, RIGHT, RIGHT]
    with ThreadPoolExecutor(3) as threads:
        grades = list(threads.map(lambda text: grade_code(text, TESTS, LIMITS).correct, texts))
    assert grades == [False, True, True, True, True, True]


@isolated
def test_tests_that_never_end_are_ended() -> None:
    for tests in ("f(1)\nwhile True:\n    pass", "f(1)\nx = 9 ** 9 ** 9", "f(1)\nx = 'x' * 10**12"):
        assert not grade_code(RIGHT, CodeTests(tests, "f"), LIMITS).correct
        assert _left_behind() == []


@isolated
def test_a_sandbox_ends_with_its_parent() -> None:
    code = (
        "from masa.grading.code import *\n"
        "text = 'import time\\ndef f(x):\\n    time.sleep(100)'\n"
        "grade_code(text, CodeTests('f(1)', 'f'), CodeSettings(seconds=60))\n"
    )
    root = str(Path(__file__).parents[2] / "src")
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root})
    end = time.monotonic() + 20
    while not _children(parent.pid) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)
    processes = _children(parent.pid)
    assert processes
    parent.kill()
    parent.wait()
    while any(_is_alive(process) for process in processes) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(_is_alive(process) for process in processes)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(process: int) -> list[int]:
    """All descendants of a process."""
    found: list[int] = []
    for entry in Path(f"/proc/{process}/task").glob("*/children"):
        for child in entry.read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def test_without_isolation_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "_fault", lambda: "bubblewrap (bwrap) is not installed")
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()\n{RIGHT}"
    with pytest.raises(UserError, match=r"apt-get install bubblewrap.*--unsafe-code-execution") as caught:
        grade_code(code, TESTS, LIMITS)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_unsafe_execution_still_has_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "_fault", lambda: "bubblewrap (bwrap) is not installed")
    unsafe = CodeSettings(seconds=2, memory_mb=512, processes=4000, allow_unsafe=True)
    mark = tmp_path / "mark"
    assert grade_code(f"open({str(mark)!r}, 'w').close()\n{RIGHT}", TESTS, unsafe).correct
    assert mark.exists()
    for attack in ("sleep", "exit before the tests", "equal to all", "fake success line", "memory bomb"):
        start = time.monotonic()
        assert not grade_code(f"```python\n{ATTACKS[attack]}\n```", TESTS, unsafe).correct, attack
        assert time.monotonic() - start < 8


def test_a_bubblewrap_that_fails_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox._fault.cache_clear()
    try:
        fault = isolation_fault()
    finally:
        sandbox._fault.cache_clear()
    assert fault is not None
    if sys.platform == "linux":
        assert "No permissions" in fault


@pytest.mark.parametrize("name", ["seconds", "memory_mb", "processes", "file_mb", "output_kb"])
def test_limits_are_checked(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} must be positive"):
        CodeSettings(**{name: 0})
