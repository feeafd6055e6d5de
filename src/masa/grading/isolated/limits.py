"""What a process may use, set by the process itself before it runs anything foreign. Linux."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_CAPABILITY_VERSION = 0x20080522
_CLONE_NEWUSER = 0x10000000
_CLONE_NAMESPACES = 0x7E020000  # every kind of namespace
_AF_UNIX = 1

# Names of machines, their number in a filter, and their numbers of system calls that no solution needs: looking into
# other processes, memory that counts against no limit, namespaces and mounts, and doors that kernels often leave ajar.
_DENIED: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "memfd_create": 319, "shmget": 29,
            "msgget": 68, "semget": 64, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155,
            "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
            "io_uring_setup": 425, "open_by_handle_at": 304, "open_tree": 428, "move_mount": 429, "fsopen": 430,
            "memfd_secret": 447, "clone": 56, "clone3": 435, "socket": 41,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279, "shmget": 194,
            "msgget": 186, "semget": 190, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41,
            "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
            "io_uring_setup": 425, "open_by_handle_at": 265, "open_tree": 428, "move_mount": 429, "fsopen": 430,
            "memfd_secret": 447, "clone": 220, "clone3": 435, "socket": 198,
        },
    ),
}  # fmt: skip


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def become_nobody() -> None:
    """Gives up root and all capabilities, and counts its processes in a user namespace of its own, if it can be had."""
    libc = _libc()
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        libc.unshare(_CLONE_NEWUSER)
    # Whoever makes a user namespace holds every capability in it.
    libc.capset(ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0)), bytes(24))
    # A change of user clears the first; the second keeps others of the same user out of this process's memory.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def limit(limits: Mapping[str, float]) -> None:
    """Limits on this process and what it starts.

    Args:
        limits: `seconds` of processor time, `memory` and `file` in bytes, `processes` of the user.
    """
    limit_memory(limits["memory"])
    limit_time(limits["seconds"])
    for what, value in (
        (resource.RLIMIT_FSIZE, int(limits["file"])),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, int(limits["processes"])),
    ):
        _lower(what, value)


def limit_time(seconds: float) -> None:
    """Seconds of processor time, after which the kernel ends this process."""
    _lower(resource.RLIMIT_CPU, int(seconds) + 1)


def limit_memory(size: float) -> None:
    """Bytes of address space of this process and of each that it starts."""
    _lower(resource.RLIMIT_AS, int(size))


def _lower(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def deny_system_calls() -> bool:
    """Makes the kernel refuse the calls above, and sockets but local ones; False on machines that are not listed."""
    if os.uname().machine not in _DENIED or struct.calcsize("P") != 8:
        return False
    arch, numbers = _DENIED[os.uname().machine]
    code = _filter(arch, numbers)
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in code)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    head = Program(len(code), ctypes.cast(buffer, ctypes.c_void_p).value)
    return bool(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(head), 0, 0) == 0)


def _filter(arch: int, numbers: Mapping[str, int]) -> list[tuple[int, int, int, int]]:
    load, equal, greater, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, missing, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
    code = [
        (load, 0, 0, 4),  # which machine's numbers
        (equal, 1, 0, arch),
        (give, 0, 0, kill),
        (load, 0, 0, 0),  # which call
        (greater, 0, 1, 0x40000000),  # numbers of the x32 kind
        (give, 0, 0, refuse),
    ]
    for name, number in numbers.items():
        if name == "clone":
            code += [
                (equal, 0, 4, number),
                (load, 0, 0, 16),
                (any_bit, 0, 1, _CLONE_NAMESPACES),
                (give, 0, 0, refuse),
                (give, 0, 0, allow),
            ]
        elif name == "socket":
            code += [
                (equal, 0, 4, number),
                (load, 0, 0, 16),
                (equal, 1, 0, _AF_UNIX),
                (give, 0, 0, refuse),
                (give, 0, 0, allow),
            ]
        else:  # the C library takes `clone` where `clone3`, whose flags a filter cannot see, is missing
            code += [(equal, 0, 1, number), (give, 0, 0, missing if name == "clone3" else refuse)]
    return [*code, (give, 0, 0, allow)]
