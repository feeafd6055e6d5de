"""`masa serve` with the official client, over HTTP, on the bundled model; one server for all tests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from masa.cli import main

SECONDS = 120.0
QUESTION = "Compute 12 + 30."
ASKED: Any = [{"role": "user", "content": QUESTION}]


@contextmanager
def served(log: Path, *arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server in a process of its own, and its address."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "masa.cli", "serve", "bundled", "--port", "0", *arguments],
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(r"http://\S+", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, found[0]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("serve") / "log", "--samples", "6", "--predictions", "2") as (_, found):
        yield found


@pytest.fixture
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=SECONDS)


def spent(completion: Any) -> dict[str, Any]:
    return dict(completion.usage.masa)


def test_it_answers_as_masa_solve_does(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = client.chat.completions.create(model="bundled", messages=ASKED, seed=3)
    command = ["masa", "solve", "bundled", "--question", QUESTION, "--samples", "6", "--predictions", "2", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, "--seed", "3"])
    with pytest.raises(SystemExit, match="0"):
        main()
    (solution,) = json.loads(capsys.readouterr().out)["solutions"]
    usage, choice = answer.usage, answer.choices[0]
    assert usage is not None
    assert (choice.message.role, choice.message.content) == ("assistant", solution["text"])
    assert choice.finish_reason == {"stop": "stop"}.get(solution["finish_reason"], "length")
    told = spent(answer)
    assert told["prediction"] == solution["foretold"]
    for name in ("answer", "confidence", "likely_right", "votes", "samples", "stopped"):
        assert told[name] == solution[name]
    assert usage.completion_tokens == solution["tokens"] == told["prediction_tokens"] + told["sample_tokens"]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == solution["tokens"] - solution["length"]


def test_tokens_of_the_prompt_are_the_templates(client: openai.OpenAI) -> None:
    from masa.cli.loading import find_model, load_model

    _, tokenizer = load_model(find_model("bundled").path)
    messages: Any = [
        {"role": "user", "content": [{"type": "text", "text": "Compute "}, {"type": "text", "text": "1 + 1."}]},
        {"role": "assistant", "content": "2", "refusal": None, "tool_calls": None},
        {"role": "user", "content": QUESTION},
    ]
    answer = client.chat.completions.create(model="bundled", messages=messages, max_completion_tokens=40)
    plain = [messages[0] | {"content": "Compute 1 + 1."}, {"role": "assistant", "content": "2"}, messages[2]]
    ids = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(ids["input_ids"])


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="bundled", messages=ASKED, seed=3)
    for options in ({}, {"stream_options": {"include_usage": True}}):
        chunks = list(
            client.chat.completions.create(model="bundled", messages=ASKED, seed=3, stream=True, **options)  # type: ignore[call-overload]
        )
        texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(texts) == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert len({chunk.id for chunk in chunks}) == 1
        reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
        assert reasons == [None] * (len(reasons) - 1) + [whole.choices[0].finish_reason]
        usages = [chunk.usage for chunk in chunks if chunk.usage is not None]
        assert usages == ([whole.usage] if options else [])


def test_a_budget_is_never_exceeded(client: openai.OpenAI) -> None:
    for budget in (1, 7, 50, 200):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = client.chat.completions.create(model="bundled", messages=ASKED, **{name: budget})  # type: ignore[call-overload]
            assert 1 <= answer.usage.completion_tokens <= budget
            assert spent(answer)["samples"] >= 1
    assert answer.usage.completion_tokens > 50
    tiny = client.chat.completions.create(model="bundled", messages=ASKED, max_tokens=1)
    assert tiny.choices[0].finish_reason == "length"
    assert spent(tiny)["prediction"] is None


def test_sampling_follows_the_request(client: openai.OpenAI) -> None:
    def ask(**settings: Any) -> Any:
        return client.chat.completions.create(model="bundled", messages=ASKED, **settings)

    # Without a seed each request has its own, which is told, and gives the same again.
    first, second = ask(), ask()
    assert spent(first)["seed"] != spent(second)["seed"]
    assert spent(ask(seed=spent(first)["seed"])) == spent(first)
    greedy = [ask(temperature=0, seed=seed) for seed in (1, 2)]
    assert greedy[0].choices[0].message == greedy[1].choices[0].message
    assert spent(greedy[0])["samples"] == spent(greedy[0])["prediction"]["predictions"] == 1
    narrow = ask(top_p=1e-9, seed=5)  # the likeliest token each time
    assert narrow.choices[0].message == greedy[0].choices[0].message


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == ("bundled", "model", "masa")
    assert client.models.retrieve("bundled") == model
    with pytest.raises(openai.NotFoundError, match="this server has 'bundled'") as refused:
        client.models.retrieve("owner/other")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("changed", "status", "param", "code", "said"),
    [
        ({"model": "gpt"}, 404, "model", "model_not_found", "this server has 'bundled'"),
        ({"model": None}, 400, "model", "invalid_value", "valid string"),
        ({"messages": []}, 400, "messages", "invalid_value", "at least 1 item"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages", None, "must be the user's"),
        ({"messages": [{"role": "user", "content": " \n"}]}, 400, "messages", None, "not empty"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "missing_required_parameter", "missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role", "invalid_value", "'system'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            *(400, "messages.0.content.0.type", "invalid_value", "'text'"),
        ),
        (
            {"messages": [{"role": "user", "content": "x", "name": "y"}]},
            *(400, "messages.0.name", "unsupported_parameter", "not served"),
        ),
        (
            {"messages": [{"role": "user", "content": "1 + 1 " * 1000}]},
            *(400, "messages", "context_length_exceeded", "exceed the 1024 positions"),
        ),
        ({"n": 2}, 400, "n", "unsupported_parameter", "not served"),
        ({"stop": ["\n"]}, 400, "stop", "unsupported_parameter", "not served"),
        ({"tools": [{}]}, 400, "tools", "unsupported_parameter", "not served"),
        ({"logprobs": True}, 400, "logprobs", "unsupported_parameter", "not served"),
        ({"temprature": 1}, 400, "temprature", "unknown_parameter", "did you mean 'temperature'?"),
        ({"temperature": 2.5}, 400, "temperature", "invalid_value", "less than or equal to 2"),
        ({"temperature": "1"}, 400, "temperature", "invalid_value", "valid number"),
        ({"top_p": 0}, 400, "top_p", "invalid_value", "greater than 0"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value", "greater than or equal to 1"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 400, "max_tokens", None, "give one"),
        ({"seed": 2**63}, 400, "seed", "invalid_value", "less than"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options", None, "stream: true"),
        ({"stream": True, "n": 3}, 400, "n", "unsupported_parameter", "not served"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    changed: dict[str, Any], status: int, param: str, code: str | None, said: str, client: openai.OpenAI
) -> None:
    body = {"model": "bundled", "messages": ASKED} | changed
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="", messages=ASKED, extra_body=body)
    error = refused.value
    assert (error.status_code, error.param, error.code, error.type) == (status, param, code, "invalid_request_error")
    assert said in str(error)


def test_fields_that_ask_for_nothing_are_taken(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="bundled",
        messages=ASKED,
        max_tokens=20,
        n=1,
        stop=None,
        logprobs=False,
        frequency_penalty=0,
        presence_penalty=0.0,
        response_format={"type": "text"},
        user="somebody",
        metadata={"run": "1"},
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{", {}, 400, "not JSON"),
        (b"", {}, 400, "not JSON"),
        (b"[1]", {}, 400, "must be a JSON object"),
        (b"[" * 100_000, {}, 400, "not JSON"),
        (b'{"model": "\xff"}', {}, 400, "not JSON"),
        (rb'{"model": "bundled", "messages": [{"role": "user", "content": "\ud800"}]}', {}, 400, "not JSON"),
        (b'{"model": "bundled", "temperature": NaN}', {}, 400, "not JSON"),
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b" " * ((1 << 20) + 1), {}, 413, "exceeds 1,048,576 bytes"),
    ],
)
def test_broken_bodies(body: bytes, headers: dict[str, str], status: int, said: str, address: str) -> None:
    sent = {"content-type": "application/json"} | headers
    found = httpx2.post(f"{address}/chat/completions", content=body, headers=sent)
    assert (found.status_code, found.json()["error"]["type"]) == (status, "invalid_request_error")
    assert said in found.json()["error"]["message"]


def test_other_paths_methods_and_hosts(address: str) -> None:
    root = address.removesuffix("/v1")
    for method, path, status in (("POST", "/v1/responses", 404), ("GET", "/v1/chat/completions", 405)):
        found = httpx2.request(method, root + path)
        assert found.status_code == status
        assert "there are GET /health, " in found.json()["error"]["message"]
    # A page that had its own name point to this machine would come with that name.
    found = httpx2.get(f"{address}/models", headers={"host": "evil.example:80"})
    assert (found.status_code, "'evil.example' is not this server's" in found.text) == (403, True)


def test_answers_together_are_those_alone_and_health_meanwhile(client: openai.OpenAI, address: str) -> None:
    health = address.removesuffix("/v1") + "/health"
    answers: list[Any] = []

    def ask(seed: int) -> None:
        answers.append(client.chat.completions.create(model="bundled", messages=ASKED, seed=seed))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        state = httpx2.get(health, timeout=SECONDS).json()
        assert state["status"] == "ok"
        most = max(most, state["running"])
    assert most >= 2
    together = {spent(answer)["seed"]: answer for answer in answers}
    for seed in range(6):
        alone = client.chat.completions.create(model="bundled", messages=ASKED, seed=seed)
        assert together[seed].choices == alone.choices
        assert together[seed].usage == alone.usage


def slow(address: str, *, stream: bool) -> socket.socket:
    """A connection that has asked for what takes long."""
    host, port = address.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
    connection = socket.create_connection((host, int(port)))
    body = json.dumps({"model": "bundled", "messages": ASKED, "stream": stream}).encode()
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    return connection


def until(address: str, name: str, value: int) -> None:
    health = address.removesuffix("/v1") + "/health"
    deadline = time.monotonic() + SECONDS
    while httpx2.get(health, timeout=SECONDS).json()[name] != value:
        assert time.monotonic() < deadline
        time.sleep(0.02)


LONG = ("--max-tokens", "900", "--strategy", "uniform", "--samples", "400", "--meta-prompt", "brief")
"""Takes minutes: in tests it is always given up."""


def test_a_client_that_goes_takes_its_work_with_it(tmp_path: Path) -> None:
    with served(tmp_path / "log", *LONG, "--queue", "1") as (process, address):
        for stream in (False, True):
            running = slow(address, stream=stream)
            until(address, "running", 1)
            waiting = slow(address, stream=stream)
            until(address, "waiting", 1)
            client = openai.OpenAI(base_url=address, api_key="none", max_retries=0)
            with pytest.raises(openai.InternalServerError, match="1 requests are waiting already") as refused:
                client.chat.completions.create(model="bundled", messages=ASKED)
            assert (refused.value.status_code, refused.value.code) == (503, "queue_full")
            waiting.close()
            until(address, "waiting", 0)
            running.close()
            until(address, "running", 0)
        client.chat.completions.create(model="bundled", messages=ASKED, max_tokens=20)
        assert process.poll() is None
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_grace(number: signal.Signals, tmp_path: Path) -> None:
    with served(tmp_path / "log", *LONG, "--grace", "1") as (process, address):
        connection = slow(address, stream=True)
        until(address, "running", 1)
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(60) == 128 + number
        assert time.monotonic() - started < 30
        connection.close()
    said = (tmp_path / "log").read_text()
    assert f"stopped by {number.name} and serves no longer" in said
    assert "Traceback" not in said


def test_who_goes_does_not_hold_up_those_answered_together_with_it(tmp_path: Path) -> None:
    with served(tmp_path / "log", *LONG) as (_, address):
        client = openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=SECONDS)
        answers: list[Any] = []

        def ask() -> None:
            answers.append(client.chat.completions.create(model="bundled", messages=ASKED, max_tokens=20, seed=3))

        first = slow(address, stream=True)
        until(address, "running", 1)
        second, short = slow(address, stream=True), threading.Thread(target=ask)
        short.start()
        until(address, "waiting", 2)
        first.close()
        until(address, "running", 2)
        second.close()
        short.join(SECONDS)
        ask()
        until(address, "done", 4)
    assert answers[0].choices == answers[1].choices
    assert answers[0].usage == answers[1].usage


def test_a_key(tmp_path: Path) -> None:
    with served(tmp_path / "log", "--host", "0.0.0.0", "--name", "own", MASA_API_KEY="söcret") as (_, address):
        address = address.replace("0.0.0.0", "127.0.0.1")
        for key in ("wrong", "söcret2", ""):
            headers = {"authorization": f"Bearer {key}".encode()} if key else {}
            found = httpx2.get(f"{address}/models", headers=headers)
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
        found = httpx2.get(f"{address}/models", headers={"authorization": "Bearer söcret".encode()})
        assert found.json()["data"][0]["id"] == "own"
        assert httpx2.get(address.removesuffix("/v1") + "/health").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines: set a key"),
        (["--host", "::"], "--host :: can be reached from other machines: set a key"),
        (["--host", "example.org"], "can be reached from other machines: set a key"),
        (["--api-key", " "], "--api-key is empty"),
        (["--port", "70000"], "--port 70000: it must lie between 0"),
        (["--host", "127.0.0.1", "--port", "{taken}"], "give another --port"),
        (["--queue", "-1"], "--queue -1: it must be at least 0"),
        (["--together", "0"], "--together 0: it must be at least 1"),
        (["--kind", "code"], "cannot be counted as votes"),
        (["--strategy", "unifrom"], "did you mean 'uniform'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASA_API_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [argument.format(taken=taken.getsockname()[1]) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["masa", "serve", "bundled", *given])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_without_its_packages_the_remedy_is_named() -> None:
    code = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['masa', 'serve', 'bundled', '--port', '0']; "
        "from masa.cli import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "masa serve needs fastapi and uvicorn" in found.stderr
    assert "pip install -e '.[serve]'" in found.stderr
