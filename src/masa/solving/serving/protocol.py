"""OpenAI's protocol of chat completions, as far as it is served: what may be asked, and how what is wrong is said.

A field of the protocol that is not served is taken where it asks for nothing (`n: 1`, `logprobs: false`) and refused
by name elsewhere; a field that the protocol does not have is refused too, so that no setting is dropped silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from masa.errors import unknown_key_message

_Neutral = Mapping[str, Sequence[Any]]
"""Fields of the protocol that are not served, and the values, beside null, by which each asks for nothing."""

_OF_REQUEST: _Neutral = {
    "n": [1],
    "stop": [[]],
    "frequency_penalty": [0],
    "presence_penalty": [0],
    "logprobs": [False],
    "top_logprobs": [0],
    "logit_bias": [{}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "parallel_tool_calls": [True, False],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "response_format": [{"type": "text"}],
    "modalities": [["text"]],
    "audio": [],
    "prediction": [],
    "reasoning_effort": [],
    "verbosity": [],
    "web_search_options": [],
    "service_tier": ["auto", "default"],
    "store": [False],
}
# What clients send back of an answer is in messages too.
_OF_MESSAGE: _Neutral = {
    "name": [],
    "refusal": [],
    "audio": [],
    "annotations": [[]],
    "tool_calls": [[]],
    "function_call": [],
}
_OF_STREAM: _Neutral = {"include_obfuscation": [False]}


class ProtocolError(Exception):
    """A refusal in the protocol's form.

    Args:
        message: what is wrong, and the remedy.
        status: of HTTP.
        kind: the protocol's `type`.
        param: the field that is to blame.
        code: for programs.
        headers: of the response.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.error = {"message": message, "type": kind, "param": param, "code": code}

    @property
    def body(self) -> dict[str, Any]:
        """The response's JSON object."""
        return {"error": self.error}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A part of a message; there are no others here."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One turn. What clients send back of an answer is taken where it is empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """Its text, parts joined."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """Of `stream: true`."""

    include_usage: bool | None = None


class ChatRequest(_Strict):
    """What is served of the body of `POST /v1/chat/completions`."""

    model: str
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    """Of everything that is generated for the answer, predictions and every sample included."""
    max_tokens: int | None = Field(None, ge=1)
    """The protocol's older name of the same."""
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Labels of the caller's own; nothing here depends on them.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def budget(self) -> int | None:
        """Tokens to generate at most; None without a bound."""
        return self.max_completion_tokens or self.max_tokens


def parse_chat(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        ProtocolError: naming the first field that is wrong.
    """
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProtocolError(f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise ProtocolError("the body must be a JSON object")
    given = _served(given, _OF_REQUEST)
    if isinstance(messages := given.get("messages"), list):
        given["messages"] = [
            _served(message, _OF_MESSAGE, f"messages.{place}.") for place, message in enumerate(messages)
        ]
    if "stream_options" in given:
        given["stream_options"] = _served(given["stream_options"], _OF_STREAM, "stream_options.")
    try:
        chat = ChatRequest.model_validate(given)
    except ValidationError as error:
        raise _refusal(error) from None
    if chat.max_tokens and chat.max_completion_tokens:
        raise ProtocolError("max_tokens is the older name of max_completion_tokens: give one", param="max_tokens")
    if chat.stream_options is not None and not chat.stream:
        raise ProtocolError("stream_options go with stream: true alone", param="stream_options")
    last = chat.messages[-1]
    if last.role != "user" or not last.text.strip():
        raise ProtocolError("the last message must be the user's, and not empty", param="messages")
    return chat


def _served(given: Any, unserved: _Neutral, where: str = "") -> Any:
    """An object without the fields that ask for nothing.

    Raises:
        ProtocolError: for one that asks for something.
    """
    if not isinstance(given, dict):
        return given
    for name, neutral in unserved.items():
        if name in given and given[name] is not None and given[name] not in neutral:
            raise ProtocolError(
                f"{where}{name} is not served by this endpoint: leave it out",
                param=f"{where}{name}",
                code="unsupported_parameter",
            )
    return {name: value for name, value in given.items() if name not in unserved}


def _refusal(error: ValidationError) -> ProtocolError:
    # Of a content that is neither a text nor parts, what is wrong with the parts says most.
    first = max(error.errors(include_url=False, include_context=False), key=lambda fault: len(fault["loc"]))
    kind, where = first["type"], [str(part) for part in first["loc"]]
    param = ".".join(part for part in where if part not in ("str", "list[TextPart]"))
    if kind == "extra_forbidden":
        owner = StreamOptions if where[0] == "stream_options" else Message
        known = ChatRequest.model_fields if len(where) == 1 else owner.model_fields
        return ProtocolError(unknown_key_message("field", where[-1], known), param=param, code="unknown_parameter")
    if kind == "missing":
        return ProtocolError(f"{param} is missing", param=param, code="missing_required_parameter")
    said = first["msg"][:1].lower() + first["msg"][1:]
    return ProtocolError(
        f"{param}: {said}" if param else f"the body: {said}", param=param or None, code="invalid_value"
    )
