"""vLLM as a worker: one model, whose weights and requests come from elsewhere. Needs vLLM and the standard library.

`masa.rollout.vllm` runs it in its own process, or as a program in an environment that has vLLM and need not have masa;
a server for a trainer elsewhere is

    MASA_VLLM_TOKEN=secret python src/masa/rollout/vllm_worker.py --host 127.0.0.1 --port 8000

Messages are bytes over `multiprocessing.connection` and never pickles: a question and its answer are one JSON object
each, weights are frames of safetensors that end with an empty one. The token is proved on both sides and never sent;
what follows is neither encrypted nor signed, so a network in between must be one to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import sys
import tempfile
import threading
import traceback
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path

TYPE_CHECKING = False  # the typing module is not needed to run
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

TOKEN = "MASA_VLLM_TOKEN"
"""Environment variable with the secret that server and trainer share."""
_LARGEST_SEED = 2**63 - 1


class Refusal(Exception):  # noqa: N818 - not a fault
    """What was asked cannot be had; one line that says why."""


class Worker:
    """One model of vLLM's. Its first weights are random: give it others before asking for rollouts."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._settings: dict[str, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Build the model, or go on with one of the same settings.

        Args:
            settings: `config`, the model's as in `config.json`; `dtype`; `max_num_seqs`, rows decoded at a time;
                `max_model_len`, tokens of prompt and rollout; `gpu_memory_utilization`, the share of the memory for
                weights and cache (on a CPU, for the cache); further arguments of `vllm.LLM`.

        Raises:
            Refusal: if vLLM is not there, or another model is.
        """
        if self._llm is None:
            self._llm = self._build(settings)
            self._settings = settings
        elif settings != self._settings:
            changed = [name for name in settings if settings[name] != self._settings.get(name)]
            raise Refusal(f"it serves a model with another {', '.join(changed)}: restart it")
        import vllm

        return {"vllm": vllm.__version__, "device": str(self._llm.llm_engine.vllm_config.device_config.device_type)}

    def _build(self, settings: dict[str, Any]) -> Any:
        # The model in this process: weights are handed over by reference, and seeds rule alone.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # nothing goes over the network unasked
        if settings.get("enforce_eager") and "torch" not in sys.modules:
            os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # its sampler would be compiled all the same
        try:
            from vllm import LLM
        except ImportError as error:
            raise Refusal(f"vLLM cannot be imported by {sys.executable}: {error}") from error
        self._folder = tempfile.TemporaryDirectory(prefix="masa-vllm-")
        options = dict(settings)
        config = options.pop("config")
        (Path(self._folder.name) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return LLM(
            model=self._folder.name,
            load_format="dummy",
            skip_tokenizer_init=True,
            generation_config="vllm",  # no sampling defaults of the model's
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",  # of the distribution that tokens are drawn from
            disable_log_stats=True,
            **options,
        )

    def close(self) -> None:
        """Leave no files behind."""
        if self._folder is not None:
            self._folder.cleanup()

    def load(self, weights: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Put weights, under the names of the model's checkpoints, in the place of those there are.

        Kernels keep repacked copies of weights, so `load_weights` alone would leave them behind: vLLM loads layer by
        layer and packs anew. What was cached for prompts is forgotten.
        """
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        return self.forget()

    def forget(self) -> dict[str, Any]:
        """Empty the cache of prompts."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not forget what it had cached of prompts")
        return {}

    def generate(
        self, prompts: list[list[int]], rows: list[list[Any]], stop_token_ids: list[int], logprobs: bool
    ) -> dict[str, Any]:
        """One rollout a row.

        Args:
            rows: number of the prompt, max_tokens, temperature, top_p, top_k and seed (or none) of each.
        """
        from vllm import SamplingParams

        outputs = self._llm.generate(
            [{"prompt_token_ids": prompts[number]} for number, *_ in rows],
            [
                SamplingParams(
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    top_k=top_k,
                    seed=None if seed is None else seed & _LARGEST_SEED,
                    stop_token_ids=stop_token_ids,
                    ignore_eos=True,  # `stop_token_ids` say what ends a rollout
                    logprobs=0 if logprobs else None,  # of the sampled token alone
                    detokenize=False,
                )
                for _, max_tokens, temperature, top_p, top_k, seed in rows
            ],
            use_tqdm=False,
        )
        rollouts = []
        for output in outputs:
            (completion,) = output.outputs
            ids = list(completion.token_ids)
            found = None
            if logprobs:
                found = [entry[token].logprob for entry, token in zip(completion.logprobs, ids, strict=True)]
            rollouts.append([ids, found])
        return {"rollouts": rollouts, "cached_tokens": sum(output.num_cached_tokens or 0 for output in outputs)}


def serve(connection: Connection, worker: Worker) -> None:
    """Answer one client until it hangs up."""
    while True:
        try:
            question = json.loads(connection.recv_bytes())
            answer = _answer(connection, worker, **question)
            connection.send_bytes(json.dumps(answer).encode())
        except (EOFError, OSError):
            return


def _answer(connection: Connection, worker: Worker, do: str, **arguments: Any) -> dict[str, Any]:
    frames = _frames(connection) if do == "load" else iter(())
    try:
        if do == "start":
            return worker.start(**arguments)
        if do == "forget":
            return worker.forget()
        if do == "generate":
            return worker.generate(**arguments)
        if do == "load":
            return worker.load(frames)
        raise Refusal(f"it does not know what {do!r} is: is its version of masa the same?")
    except (EOFError, OSError):
        raise
    except Refusal as refusal:
        return {"error": str(refusal)}
    except Exception as error:  # vLLM's own, of any kind; the client must hear of it
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    finally:
        for _ in frames:  # what has not been read would be taken for the next question
            pass


def _frames(connection: Connection) -> Iterator[tuple[str, Any]]:
    from safetensors.torch import load

    while frame := connection.recv_bytes():
        yield from load(frame).items()


def end_with(trainer: Connection, worker: Worker) -> None:
    """End this process when the trainer has hung up, even in the middle of a generation, which nobody waits for."""
    watch = select.poll()
    watch.register(trainer.fileno(), 0)  # hanging up is told whatever is asked for
    watch.poll()
    try:
        worker.close()
    finally:
        os._exit(0)  # vLLM takes long to say goodbye, and nobody is there to hear it


def listen(host: str, port: int, token: bytes, worker: Worker) -> None:
    """Serve one client after the other, for ever; one that comes while another is served is sent away."""
    clients: queue.Queue[Connection] = queue.Queue()
    is_busy = threading.Event()
    listener = Listener((host, port), authkey=token)
    # The real port, if 0 was asked for.
    print(f"vLLM worker: listening on {host}:{listener.address[1]}", flush=True)

    def accept() -> None:
        while True:
            try:
                client = listener.accept()
            except (AuthenticationError, EOFError, OSError) as error:
                print(f"vLLM worker: refused a client: {error!r}", file=sys.stderr, flush=True)
                continue
            if is_busy.is_set():
                with client:
                    client.recv_bytes()
                    client.send_bytes(json.dumps({"error": "it serves another trainer"}).encode())
                continue
            is_busy.set()
            clients.put(client)

    threading.Thread(target=accept, daemon=True).start()
    while True:
        with clients.get() as client:  # here, since vLLM wants the main thread
            serve(client, worker)
        is_busy.clear()


def main(worker: Worker) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fd", type=int, help="of a socket to the one client; else it listens")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    # As a program this file's neighbours would hide packages of the same names, vllm among them.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
    # The trainer ends the worker, by hanging up; a Ctrl-C is the trainer's to deal with.
    if options.fd is not None:
        trainer = Connection(options.fd)
        end = threading.Thread(target=end_with, args=(trainer, worker), daemon=True)
        end.start()
        serve(trainer, worker)
        end.join()
    token = os.environ.get(TOKEN, "")
    if not token:
        parser.error(f"{TOKEN} is not set: choose a secret, and give it to the trainer the same way")
    listen(options.host, options.port, token.encode(), worker)


if __name__ == "__main__":
    main(Worker())
