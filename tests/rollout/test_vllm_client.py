"""The client's side of vLLM without vLLM: what goes over the wire, and one clear line for whatever goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model
from stub_worker import SECRET, interpreter, listening
from tiny_models import build

from masa.errors import UserError
from masa.records import FinishReason, Request, Rollout
from masa.rollout.vllm import VLLMEngine
from masa.rollout.vllm_links import InProcess, OwnProcess, Server, worker_environment
from masa.rollout.vllm_weights import served_weights, state_of


@pytest.fixture
def port() -> Iterator[int]:
    """Of a worker without vLLM that listens on the loopback."""
    with listening() as found:
        yield found


@pytest.fixture(autouse=True)
def _logs_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker that failed leaves to be read."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def engine(port: int, **settings: Any) -> VLLMEngine:
    return VLLMEngine(build("qwen3", dtype=torch.float32), link=Server("127.0.0.1", port, SECRET), **settings)


def test_requests_and_rollouts_come_through(port: int) -> None:
    served = engine(port, eos_token_ids=[3])
    assert served.worker == {"vllm": "stub", "device": "none"}
    requests = [Request((4, 5), 3), Request((4, 5), 2), Request((6,), 2, is_cutoff=True)]
    assert served.generate(requests, logprobs=True) == [
        Rollout((1, 2, 3), FinishReason.STOP, (-0.5, -0.5, -0.5)),
        Rollout((1, 2), FinishReason.LENGTH, (-0.5, -0.5)),
        Rollout((1, 2), FinishReason.CUTOFF, (-0.5, -0.5)),
    ]
    assert [rollout.logprobs for rollout in served.generate(requests)] == [None] * 3
    assert (served.updates, served.cached_tokens) == (1, 2)
    assert served.generate([]) == []


def test_weights_come_through_whole_and_in_the_copys_type(port: int) -> None:
    model = build("qwen3", dtype=torch.float32)
    link = Server("127.0.0.1", port, SECRET)
    VLLMEngine(model, link=link)
    answer = link.load(served_weights(model, torch.bfloat16))
    assert answer["architectures"] == ["Qwen3ForCausalLM"]
    expected = {
        name: [list(p.shape), "torch.bfloat16", p.detach().bfloat16().sum().item()]
        for name, p in model.named_parameters()
    }
    assert answer["loaded"] == expected
    assert "lm_head.weight" in expected


def test_a_failure_over_there_is_one_line_and_not_the_end(port: int) -> None:
    served = engine(port, eos_token_ids=[])
    with torch.no_grad():
        next(served.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match=r"^the vLLM worker at 127.0.0.1:\d+: ValueError: a weight is not a number$"):
        served.generate([Request((4,), 2)])
    # The weights are sent anew: half of them is worse than none.
    with torch.no_grad():
        next(served.model.parameters()).fill_(1.0)
    assert served.generate([Request((4,), 2)])[0].token_ids == (1, 2)
    with pytest.raises(RuntimeError, match="vLLM gave up a request after 1 of 2 tokens"):
        served.generate([Request((17,), 2)])
    with pytest.raises(FloatingPointError, match="not numbers"):
        served.generate([Request((19,), 2)], logprobs=True)
    with pytest.raises(UserError, match="does not know what 'dance' is"):
        served.link.ask("dance")


def test_a_call_that_is_broken_off_ends_the_connection(port: int) -> None:
    served = engine(port)

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        yield "a", torch.ones(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        served.link.load(weights())
    with pytest.raises(UserError, match="hung up"):
        served.generate([Request((4,), 2)])


def test_a_server_that_ends_is_named(port: int) -> None:
    served = engine(port)
    with pytest.raises(UserError, match=r"^the vLLM worker at 127.0.0.1:\d+ hung up \(\w+\): look at its own messages"):
        served.generate([Request((13,), 2)])


def test_one_trainer_at_a_time(port: int) -> None:
    first = engine(port)
    with pytest.raises(UserError, match="it serves another trainer"):
        engine(port)
    first.close()
    for _ in range(50):  # until it has noticed
        try:
            assert engine(port).generate([Request((4,), 2)])
            return
        except UserError:
            continue
    raise AssertionError("the server never became free")


def test_the_secret_must_be_the_same(port: int) -> None:
    with pytest.raises(UserError, match="has another secret: set MASA_VLLM_TOKEN"):
        Server("127.0.0.1", port, "not that one")
    with pytest.raises(UserError, match="wants a secret: set MASA_VLLM_TOKEN"):
        Server("127.0.0.1", port, "")
    assert engine(port).generate([Request((4,), 2)])


def test_nobody_or_somebody_else_on_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masa.rollout.vllm_links._SECONDS_TO_GREET", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(UserError, match="does not answer as one: is something else on that port"):
            Server("127.0.0.1", other.getsockname()[1], SECRET)
        number = other.getsockname()[1]
    with pytest.raises(UserError, match=r"is not there after 0 s \(.*\): start it with `python vllm_worker.py --host"):
        Server("127.0.0.1", number, SECRET, timeout=0)


def test_an_environment_without_vllm() -> None:
    model = build("qwen3")
    for link in (InProcess(), OwnProcess(sys.executable)):
        with pytest.raises(UserError, match="vLLM cannot be imported by"):
            VLLMEngine(model, link=link)


def test_an_interpreter_that_is_none() -> None:
    with pytest.raises(UserError, match=r"vllm_python /no/such/python cannot be run: No such file"):
        OwnProcess("/no/such/python")
    with pytest.raises(UserError, match=r"vLLM \(/bin/false\) ended with exit code 1"):
        VLLMEngine(build("qwen3"), link=OwnProcess("/bin/false"))


def test_a_process_of_ones_own_that_is_killed() -> None:
    link = OwnProcess(sys.executable)
    os.kill(link.process_id, signal.SIGKILL)
    with pytest.raises(UserError, match=r"^vLLM \(.*\) was ended by signal 9 \(all it said: .*masa-vllm-.*\)$"):
        VLLMEngine(build("qwen3"), link=link)


def test_a_worker_ends_with_its_trainer(tmp_path: Path) -> None:
    link = OwnProcess(str(interpreter(tmp_path)))
    served = VLLMEngine(build("qwen3", dtype=torch.float32), link=link)
    assert served.generate([Request((4,), 2)])
    worker = psutil.Process(link.process_id)
    # It is asked for what takes for ever, and whoever asked is gone.
    link._send({"do": "generate", "prompts": [[23]], "rows": [], "stop_token_ids": [], "logprobs": False})
    link._connection.close()
    worker.wait(timeout=20)


def test_a_worker_is_not_told_of_the_launch_that_its_trainer_is_part_of() -> None:
    ours = {"PATH": "/bin", "RANK": "3", "WORLD_SIZE": "8", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"}
    ours |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "PYTHONPATH": "src", "VLLM_LOGGING_LEVEL": "DEBUG"}
    assert worker_environment(ours, threads=None, device=None) == {
        "PATH": "/bin",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
    }
    assert worker_environment(ours, threads=2, device=None)["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("listed", "device", "expected"),
    [
        (None, "cuda:3", "3"),
        (None, "cuda", "0"),
        ("4,5, 6,7", "cuda:2", "6"),
        ("GPU-8932f937,GPU-5a", "cuda:1", "GPU-5a"),
        ("4,5", "cpu", "4,5"),
        (None, "cpu", None),
    ],
)
def test_a_worker_sees_the_device_of_its_trainer_only(listed: str | None, device: str, expected: str | None) -> None:
    ours = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    found = worker_environment(ours, threads=None, device=torch.device(device))
    assert found.get("CUDA_VISIBLE_DEVICES") == expected


def test_adapters_are_merged_without_touching_the_model() -> None:
    model = build("llama", dtype=torch.float32)
    prompt = torch.tensor([[3, 4, 5, 6]])
    plain = dict(served_weights(model, torch.float32))
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    ).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    before = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    served = dict(served_weights(adapted, torch.float32))
    assert set(served) == set(plain)
    copy = build("llama", dtype=torch.float32)
    copy.load_state_dict(served)
    with torch.no_grad():
        assert torch.allclose(copy(prompt).logits, adapted(prompt).logits, atol=1e-4)
        assert not torch.allclose(build("llama", dtype=torch.float32)(prompt).logits, copy(prompt).logits, atol=0.1)
    assert all(torch.equal(before[name], parameter) for name, parameter in adapted.named_parameters())
    enabled = state_of(adapted)
    with adapted.disable_adapter():
        assert state_of(adapted) != enabled
        off = dict(served_weights(adapted, torch.float32))
    assert all(torch.equal(off[name], plain[name]) for name in plain)


def test_other_adapters_are_refused() -> None:
    adapted = get_peft_model(
        build("llama"), LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    )
    with pytest.raises(UserError, match="lm_head has an adapter of type ModulesToSaveWrapper: with use_vllm only"):
        dict(served_weights(adapted, torch.float32))


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_an_optimizers_step_is_seen(options: dict[str, bool]) -> None:
    model = build("qwen3", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    states = {state_of(model)}
    for _ in range(2):
        model(torch.tensor([[3, 4, 5]])).logits.sum().backward()
        assert state_of(model) in states  # gradients are no change
        optimizer.step()
        assert state_of(model) not in states
        states.add(state_of(model))
    model.load_state_dict(model.state_dict())
    assert state_of(model) not in states
