"""No request makes the engine fetch anything: in every form of every API only data passes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from serving import media
from serving.refusals import Refusal
from tests.serving.stubs import head, peer
from tests.serving.test_proxy import Client, _proxy

URL = "http://169.254.169.254/latest/meta-data"
DATA = "data:image/png;base64,iVBORw0KGgo="


def user(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]}


def forms(address: str) -> dict[str, dict[str, Any]]:
    """Every place of a request that the engine takes media from."""
    source = {"type": "url", "url": address}
    return {
        "an image of OpenAI's chat": user({"type": "image_url", "image_url": {"url": address}}),
        "an image without the mapping": user({"type": "image_url", "image_url": address}),
        "a sound": user({"type": "input_audio", "input_audio": {"data": address, "format": "wav"}}),
        "a sound by url": user({"type": "input_audio", "input_audio": {"url": address}}),
        "a film": user({"type": "input_video", "input_video": {"data": address}}),
        "a film of OpenAI's form": user({"type": "video_url", "video_url": {"url": address}}),
        "an image of the Responses API": {
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": address}]}]
        },
        "what a tool answered in the Responses API": {
            "input": [
                {
                    "type": "function_call_output",
                    "call_id": "a",
                    "output": [{"type": "input_image", "image_url": address}],
                }
            ]
        },
        "an image of Anthropic's": user({"type": "image", "source": source}),
        "what a tool answered in Anthropic's API": user(
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": source}]}
        ),
        "a prompt with its media": {"prompt": {"prompt_string": "x", "multimodal_data": [address]}},
        "one of several prompts": {"prompt": ["a", {"prompt_string": "x", "multimodal_data": [address]}]},
    }


FORMS = list(forms(""))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "address",
    [
        pytest.param(URL, id="http"),
        pytest.param("https://example.com/a.png", id="https"),
        pytest.param("HTTP://example.com", id="in capitals"),
        pytest.param(" http://example.com", id="behind a blank"),
        pytest.param("file:///etc/passwd", id="a file"),
        pytest.param("httpx:something", id="what only begins like it"),
    ],
)
def test_an_address_is_refused(form: str, address: str) -> None:
    with pytest.raises(Refusal, match="addresses are not fetched") as caught:
        media.check(forms(address)[form])
    assert caught.value.status == 400


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [DATA, "iVBORw0KGgo="], ids=["a data URL", "bare base64"])
def test_content_passes(form: str, content: str) -> None:
    media.check(forms(content)[form])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(user({"type": "text", "text": f"Look at {URL}"}), id="an address in a text"),
        pytest.param({"prompt": URL}, id="a prompt"),
        pytest.param({"input": URL}, id="an input"),
        pytest.param({"system": [{"type": "text", "text": URL}]}, id="a system prompt"),
        pytest.param({"tools": [{"parameters": {"image_url": {"default": URL}}}]}, id="a tool's schema"),
        pytest.param(
            user({"type": "document", "source": {"type": "text", "data": "a: b"}}), id="a text as document"
        ),
        pytest.param({}, id="nothing"),
        pytest.param({"messages": None, "input": 3, "prompt": [1, 2, [3]]}, id="something else"),
    ],
)
def test_texts_may_hold_addresses(data: dict[str, Any]) -> None:
    media.check(data)


def test_a_deep_request_costs_little() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [{"content": deep}]
    began = time.monotonic()
    media.check({"messages": deep})
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", "an image of OpenAI's chat"),
        ("/v1/responses", "an image of the Responses API"),
        ("/v1/messages", "an image of Anthropic's"),
        ("/v1/messages/count_tokens", "an image of Anthropic's"),
        ("/apply-template", "an image of OpenAI's chat"),
        ("/completion", "a prompt with its media"),
    ],
)
def test_the_engine_never_sees_such_a_request(path: str, form: str) -> None:
    async def scenario() -> tuple[Client, list[bytes]]:
        async with peer(head(b"Content-Length: 2"), b"{}") as (engine, upstream):
            body = json.dumps(forms(URL)[form]).replace("image_url", "\\u0069mage_url").encode()
            client = await Client(path=path, body=body).call(_proxy(upstream))
        return client, engine.requests

    client, seen = asyncio.run(scenario())
    assert client.status == 400
    assert b"addresses are not fetched" in client.answer
    assert b"169.254" not in client.answer
    assert seen == []
