"""The endpoint: HTTP in, HTTP out. What an answer is, it leaves to whoever answers."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from masa.errors import UserError
from masa.records import Request as Asked
from masa.records import Rollout
from masa.runs.jsonlines import plain, without_nonfinite
from masa.solving.serving.protocol import ChatRequest, ProtocolError, parse_chat
from masa.solving.serving.worker import Abandoned, Job, QueueFull, Worker
from masa.solving.solver import Steps

BODY_BYTES = 1 << 20
WAITING = 32
TOGETHER = 8
_BEAT_SECONDS = 1.0
"""So often a waiting client is looked after: whether it is there, and, in a stream, a comment against time-outs."""
_LOCAL = ("localhost", "127.0.0.1", "[::1]")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chat completion is made of."""

    text: str
    finish_reason: str
    """`stop` or `length`."""
    prompt_tokens: int
    """Of the conversation, once."""
    text_tokens: int
    """Of the text alone."""
    tokens: int
    """Generated in all."""
    spending: dict[str, Any]
    """Prediction, votes and spend, as plain data."""

    def usage(self) -> dict[str, Any]:
        """The protocol's `usage`: what was generated beside the text counts as its reasoning."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens + self.tokens,
            "completion_tokens_details": {"reasoning_tokens": self.tokens - self.text_tokens},
            "masa": self.spending,
        }


class Answerer(Protocol):
    """Whoever answers."""

    name: str
    """Of the model, as clients give it."""

    def prepare(self, chat: ChatRequest) -> Steps[Answer]:
        """What is to be done for an answer, checked as far as that can be before; called in any thread.

        Raises:
            ProtocolError: for what cannot be answered.
            UserError: the same, in other words.
        """
        ...

    def generate(self, asked: Sequence[Sequence[Asked]], gone: Sequence[Callable[[], bool]]) -> list[list[Rollout]]:
        """The rollouts that several answers ask for, in one call; see `worker.Generate`."""
        ...


class Server(uvicorn.Server):
    """Ends in order: after Ctrl-C or SIGTERM answers that are on their way have some seconds left.

    Args:
        app: made by `make_app`.
        grace: the seconds.
    """

    def __init__(self, app: FastAPI, grace: float) -> None:
        # The server's own limit is for clients that do not read: it ends connections less gently.
        super().__init__(
            uvicorn.Config(
                app, access_log=False, log_level="warning", timeout_graceful_shutdown=int(grace) + 5, lifespan="on"
            )
        )
        self._worker: Worker = app.state.worker
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the base class."""
        timer = asyncio.get_running_loop().call_later(self._grace, self._worker.abandon)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until a signal comes, which is raised again at the end."""
        try:
            self.run(sockets=[listening])
        finally:
            self._worker.close()  # where a second signal left no time for it


def make_app(
    answerer: Answerer,
    *,
    api_key: str | None = None,
    waiting: int = WAITING,
    together: int = TOGETHER,
    body_bytes: int = BODY_BYTES,
) -> FastAPI:
    """The application.

    Args:
        answerer: the work that it prepares is done by one thread, begun in the order of the requests.
        api_key: what clients must send as bearer token; without one only clients that name a loopback host are
            served, so that no web page can reach the server by a name of its own.
        waiting: requests in the queue, at most; one too many is refused before anything is done for it.
        together: requests that are answered together, at most.
        body_bytes: of a request, at most.
    """
    worker = Worker(answerer.generate, waiting, together)
    started = int(time.time())
    model = {"id": answerer.name, "object": "model", "created": started, "owned_by": "masa"}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(worker.close)

    async def admit(request: Request) -> None:
        if api_key is None:
            host = request.headers.get("host", "")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name.lower() not in _LOCAL:
                raise ProtocolError(
                    f"host {name!r} is not this server's: without --api-key it answers to {', '.join(_LOCAL)} alone",
                    status=403,
                )
            return
        given = request.headers.get("authorization", "").encode("latin-1")  # the bytes that came
        if not secrets.compare_digest(given, f"Bearer {api_key}".encode()):
            raise ProtocolError(
                "a wrong API key: send the server's own as `Authorization: Bearer KEY`"
                if given
                else "no API key: send the server's own as `Authorization: Bearer KEY`",
                status=401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def check_model(name: str) -> None:
        if name != answerer.name:
            raise ProtocolError(
                f"model {name!r} does not exist: this server has {answerer.name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )

    # No pages of documentation: they would load scripts from elsewhere.
    app = FastAPI(title="masa serve", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.worker = worker
    app.add_exception_handler(ProtocolError, _protocol_error)
    app.add_exception_handler(HTTPException, _http_error)

    @app.get("/health")
    async def health() -> Response:
        running = worker.running
        # Not the model's name: this answers without a key, and under any host name.
        state = {"status": "ok", "running": running}
        return _json(state | {"waiting": max(0, worker.open - running), "done": worker.done})

    @app.get("/v1/models", dependencies=[Depends(admit)])
    async def models() -> Response:
        return _json({"object": "list", "data": [model]})

    @app.get("/v1/models/{name:path}", dependencies=[Depends(admit)])
    async def one_model(name: str) -> Response:
        check_model(name)
        return _json(model)

    @app.post("/v1/chat/completions", dependencies=[Depends(admit)])
    async def chat_completions(request: Request) -> Response:
        chat = parse_chat(await _body(request, body_bytes))
        check_model(chat.model)
        try:
            with worker.place() as job:
                worker.submit(job, await run_in_threadpool(answerer.prepare, chat))
        except QueueFull:
            raise ProtocolError(
                f"{waiting} requests are waiting already: try again later",
                status=503,
                kind="server_error",
                code="queue_full",
                headers={"Retry-After": "1"},
            ) from None
        except Abandoned:
            raise _ending() from None
        except Exception as error:
            raise _explained(error) from error
        common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": answerer.name}
        if chat.stream:
            with_usage = bool(chat.stream_options and chat.stream_options.include_usage)
            events = _events(job, request, common | {"object": "chat.completion.chunk"}, with_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        try:
            async for _ in _beats(job, request):
                pass
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        answer = _result(job)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        return _json(common | {"object": "chat.completion", "choices": [choice], "usage": answer.usage()})

    return app


async def _events(job: Job[Answer], request: Request, common: dict[str, Any], with_usage: bool) -> AsyncIterator[str]:
    """The events of a stream. The text comes whole: until the vote is settled, nobody knows which it will be."""
    extra: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(common | {"choices": [choice]} | extra)

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    with suppress(ClientDisconnect):
        async for _ in _beats(job, request):
            yield ": answering\n\n"
        try:
            answer = _result(job)
        except ProtocolError as error:
            yield _event(error.body)
            return
        yield chunk({"content": answer.text})
        yield chunk({}, answer.finish_reason)
        if with_usage:
            yield _event(common | {"choices": [], "usage": answer.usage()})
        yield "data: [DONE]\n\n"


async def _beats(job: Job[Answer], request: Request) -> AsyncIterator[None]:
    """Beats until the job is done; whoever stops listening cancels it.

    Raises:
        ClientDisconnect: once the client has gone.
    """
    try:
        async for _ in job.beats(_BEAT_SECONDS):
            if await request.is_disconnected():
                raise ClientDisconnect
            yield
    finally:
        if not job.future.done():
            job.cancel()


def _result(job: Job[Answer]) -> Answer:
    """What a job came to.

    Raises:
        ProtocolError: where it came to nothing.
    """
    try:
        return job.result()
    except Abandoned:
        raise _ending() from None
    except Exception as error:
        raise _explained(error) from error


def _explained(error: Exception) -> ProtocolError:
    """What the client is told of an error; of one that is ours, the log has more."""
    if isinstance(error, ProtocolError):
        return error
    if isinstance(error, UserError):
        return ProtocolError(str(error))
    log.error("no answer", exc_info=error)
    return ProtocolError(
        f"internal error: {type(error).__name__}; the server's log has more", status=500, kind="server_error"
    )


def _ending() -> ProtocolError:
    return ProtocolError("the server is shutting down", status=503, kind="server_error")


async def _body(request: Request, most: int) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A web page may send anything else to any server without asking first.
        raise ProtocolError("send the request as `Content-Type: application/json`", status=415)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise ProtocolError(
                f"the body exceeds {most:,} bytes: shorten the messages", status=413, headers={"Connection": "close"}
            )
        parts.append(part)
    return b"".join(parts)


async def _protocol_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    return _json(error.body, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code in (404, 405):
        message = f"no {request.method} {request.url.path} here: there are {', '.join(_paths(request.app))}"
    headers = dict(error.headers) if error.headers else None
    return _json(ProtocolError(message).body, error.status_code, headers)


def _paths(app: FastAPI) -> Iterator[str]:
    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or ()):
            if method != "HEAD":
                yield f"{method} {getattr(route, 'path', '').replace(':path', '')}"


def _json(value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(value), status, headers, "application/json")


def _event(value: dict[str, Any]) -> str:
    return f"data: {_encode(value)}\n\n"


def _encode(value: dict[str, Any]) -> str:
    """JSON in ASCII: whatever a model wrote, half characters included."""
    return json.dumps(without_nonfinite(plain(value))[0], allow_nan=False)
