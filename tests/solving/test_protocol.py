"""Whatever is sent, it is a request or a refusal in the protocol's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.solving.serving.protocol import ChatRequest, ProtocolError, parse_chat

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = [*ChatRequest.model_fields, "n", "stop", "tools", "logit_bias", "response_format", "streem"]
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "system"]) | VALUES,
            "content": st.text() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()})),
            "tool_calls": VALUES,
            "name": VALUES,
        },
    ),
    max_size=3,
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": MESSAGES},
    optional={name: VALUES for name in NAMES if name not in ("model", "messages")},
)


@settings(max_examples=300, deadline=None)
@given(BODIES | VALUES | st.fixed_dictionaries({"model": st.just("m"), "messages": MESSAGES}))
def test_nothing_else_comes_of_a_body(body: Any) -> None:
    chat = refusal = None
    try:
        chat = parse_chat(json.dumps(body).encode())
    except ProtocolError as error:
        refusal = error
    if refusal is not None:
        assert set(refusal.body["error"]) == {"message", "type", "param", "code"}
        assert refusal.status == 400
    if chat is not None:
        assert chat.messages[-1].role == "user"
        assert chat.messages[-1].text.strip()
        assert chat.budget is None or chat.budget >= 1


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_nor_of_bytes(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_chat(body)
