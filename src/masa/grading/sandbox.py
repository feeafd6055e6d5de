"""Foreign Python code, run where it can do no harm: bubblewrap around `masa.grading.isolated`.

What it protects from. Code runs with no network, in process, user, IPC and mount namespaces of its own, as an
unprivileged user, with no capability and no environment; it sees /usr, the interpreter and its own empty /tmp, all but
the latter read-only, and no home folder. Time, memory (of each process, and of all together by a watch every 50 ms),
processes, open files, file size, /tmp and output are limited. When the first process ends, at the latest at the time
limit, the kernel ends all the others. On x86_64 and aarch64 the kernel also refuses system calls that solutions do not
need. Tests run in another process than the program that they test (see `masa.grading.isolated.tester`), so that a
program cannot declare itself right.

What it does not protect from. Faults of the kernel, of bubblewrap and of the processor (side channels): who grades
truly hostile code puts a virtual machine around it. Reading what everyone may read under /usr and in the interpreter's
folder. Using a processor core, and up to the memory limit, until the time limit. A program that guesses what the tests
want from the arguments they pass. Tests that are wrong, or that trust a helper which the program defines.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.grading.isolated.candidate import FLAGS
from masa.grading.settings import CodeSettings

_GRACE = 3.0
"""Seconds beyond the time limit, for starting and for saying that it was reached."""
_OWN_TASKS = 3
"""The first process of the sandbox, its watch, and the program itself."""
_ROOT = "/sandbox"
_REMEDY = (
    "install bubblewrap (apt-get install bubblewrap) and allow user namespaces, or run code unprotected with "
    "--unsafe-code-execution (allow_unsafe=True)"
)


def run_job(job: Mapping[str, Any], settings: CodeSettings) -> tuple[bool, str]:
    """Runs one program against its tests; whether it passed, and why.

    Args:
        job: `code`, `tests`, `prefix` (texts), `entry_point` (a name or ""), `cases` (pairs of input and output).

    Raises:
        UserError: where code cannot be isolated and `settings.allow_unsafe` is False.
    """
    limits = {
        "seconds": settings.seconds,
        "memory": settings.memory_mb * 2**20,
        "file": settings.file_mb * 2**20,
        "processes": settings.processes + _OWN_TASKS + _counted_elsewhere(),
        "output": settings.output_kb * 2**10,
    }
    payload = json.dumps({**job, "limits": limits}).encode("ascii")
    with _command(settings) as (command, folder):
        output = _run(command, payload, settings.seconds + _GRACE, folder)
    if output is None:
        return False, f"time limit of {settings.seconds:g} s"
    try:
        verdict = json.loads(output)
        return bool(verdict["passed"]), str(verdict["reason"])
    except (ValueError, KeyError, TypeError):
        return False, "the tests ended without a verdict"


def isolation_fault() -> str | None:
    """Why code cannot be isolated on this machine, or None if it can; tried once a process."""
    return _fault()


def check_isolation(settings: CodeSettings) -> None:
    """Raises a UserError, with what to install, where code may not run."""
    fault = isolation_fault()
    if fault is not None and not settings.allow_unsafe:
        raise UserError(f"code cannot be run isolated: {fault}; {_REMEDY}")


@functools.cache
def _fault() -> str | None:
    if sys.platform != "linux":
        return f"isolation works on Linux only, this is {sys.platform}"
    if _bubblewrap() is None:
        return "bubblewrap (bwrap) is not installed"
    job = {"code": "", "tests": "", "prefix": "", "entry_point": "", "cases": []}
    limits = {"seconds": 20, "memory": 2**30, "file": 2**20, "processes": 16 + _counted_elsewhere(), "output": 1024}
    output = _run(_isolated(64), json.dumps({**job, "limits": limits}).encode("ascii"), 60, None) or b"no answer"
    if b'"passed": true' in output:
        return None
    return f"bubblewrap does not work here ({output.decode('utf-8', 'replace').strip().splitlines()[-1][:200]})"


@contextlib.contextmanager
def _command(settings: CodeSettings) -> Iterator[tuple[Sequence[str], str | None]]:
    """What to run, and in which folder."""
    check_isolation(settings)
    if isolation_fault() is None:
        yield _isolated(settings.file_mb * 4), None
    else:
        root = str(Path(__file__).parents[2])
        with tempfile.TemporaryDirectory(prefix="masa-code-") as folder:
            yield _python(root, contained=False), folder


def _python(root: str, *, contained: bool) -> list[str]:
    code = (
        f"import sys; sys.path.append({root!r}); from masa.grading.isolated.tester import main; "
        f"main(contained={contained}, life=int(sys.argv[1]))"
    )
    return [os.path.realpath(sys.executable), *FLAGS, "-c", code]


def _isolated(temporary_mb: int) -> list[str]:
    root = os.geteuid() == 0
    command = [
        _bubblewrap() or "bwrap",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    command += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox"]
    # Root makes the mounts and then changes to nobody inside: a limit on processes does not bind root, and within
    # a user namespace of bwrap's it would still be root.
    command += (
        ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if root
        else ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    )
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib32", "/lib64", "/bin", "/sbin"):
        path = Path(name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            command += ["--ro-bind", name, name]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"]
    if "--size" in _bubblewrap_help(command[0]):
        command += ["--perms", "1777", "--size", str(temporary_mb * 2**20), "--tmpfs", "/tmp"]
    else:  # a /tmp without a limit on its size would be memory without a limit
        command += ["--dir", "/tmp"]
    for prefix in {os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)}:
        if not Path(prefix).is_relative_to("/usr"):
            command += _bound(prefix, prefix)
    inside = f"{_ROOT}/masa/grading/isolated"
    command += _bound(str(Path(__file__).parent / "isolated"), inside)
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", "--"]
    return command + _python(_ROOT, contained=True)


def _bound(source: str, target: str) -> list[str]:
    """A folder, read-only; those above it are made for all to enter, where bubblewrap makes them for their owner."""
    above = [["--perms", "0755", "--dir", str(folder)] for folder in reversed(Path(target).parents[:-1])]
    return [*(word for words in above for word in words), "--ro-bind", source, target]


def _bubblewrap() -> str | None:
    return shutil.which("bwrap")


@functools.cache
def _bubblewrap_help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False, timeout=30).stdout


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "PYTHONHASHSEED": "0"}


def _run(command: Sequence[str], payload: bytes, seconds: float, folder: str | None) -> bytes | None:
    """Standard output of a process that is ended, with all it started, at its time limit (then None)."""
    life, ours = os.pipe()  # the process ends when nobody holds our end any more
    told, tell = os.pipe()
    os.set_blocking(told, False)
    try:
        process = subprocess.Popen(
            [*command, str(life)]
            if folder is not None
            else [command[0], "--info-fd", str(tell), *command[1:], str(life)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            cwd=folder,
            start_new_session=True,
            pass_fds=(life, tell) if folder is None else (life,),
        )
        os.close(tell)
        os.close(life)
        try:
            output, said = process.communicate(payload, timeout=seconds)
            return output or said
        except subprocess.TimeoutExpired:
            return None
        finally:
            information = b""
            with contextlib.suppress(BlockingIOError):  # where it has not come yet, or will not
                information = os.read(told, 2**12)
            _end(process, information)
    finally:
        os.close(ours)
        os.close(told)


def _end(process: subprocess.Popen[bytes], information: bytes) -> None:
    """Ends a process, its group, and the first process of its sandbox, and waits."""
    if process.poll() is None:
        # bwrap could not end what has become another user's.
        inside = re.search(rb'"child-pid": *(\d+)', information)
        if inside is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(inside[1]), signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _counted_elsewhere() -> int:
    """Tasks of this user that a kernel before 5.14 counts against the limit on processes of every sandbox."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if version is None or (int(version[1]), int(version[2])) >= (5, 14) or os.geteuid() == 0:
        return 0
    tasks = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                tasks += len(list((entry / "task").iterdir()))
        except OSError:
            continue
    return tasks
