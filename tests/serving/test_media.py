"""No request makes the engine fetch anything: in every form of every API only data passes."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from berth.images import MAX_IMAGES
from serving import media
from serving.refusals import Refusal
from tests.serving import pngs
from tests.serving.stubs import head, peer
from tests.serving.test_proxy import Client, _proxy

URL = "http://169.254.169.254/latest/meta-data"
PNG = pngs.png(20, 10)
DATA = pngs.url(PNG)
BARE = DATA.partition(",")[2]


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
        "a content to embed": {"content": [{"prompt_string": "x", "multimodal_data": [address]}]},
        "one of several prompts": {"prompt": ["a", {"prompt_string": "x", "multimodal_data": [address]}]},
    }


FORMS = list(forms(""))
OTHERS = [form for form in FORMS if "sound" in form or "film" in form]


def check(data: dict[str, Any], *, taken: bool = True) -> int:
    return asyncio.run(media.check(data, images=taken))


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
@pytest.mark.parametrize("taken", [False, True], ids=["without projector", "with one"])
def test_an_address_is_refused(form: str, address: str, taken: bool) -> None:
    with pytest.raises(Refusal, match="addresses are not fetched") as caught:
        check(forms(address)[form], taken=taken)
    assert caught.value.status == 400


@pytest.mark.parametrize("form", FORMS)
def test_without_a_projector_no_media_are_taken(form: str) -> None:
    with pytest.raises(Refusal, match=r"takes no images: .* inference\.llamacpp\.mmproj") as caught:
        check(forms(DATA)[form], taken=False)
    assert (caught.value.status, caught.value.code) == (400, "images_not_taken")


@pytest.mark.parametrize("form", [form for form in FORMS if form not in OTHERS])
@pytest.mark.parametrize("content", [DATA, BARE], ids=["a data URL", "bare base64"])
def test_an_image_passes(form: str, content: str) -> None:
    assert check(forms(content)[form]) == 1


@pytest.mark.parametrize("form", OTHERS)
def test_with_a_projector_sounds_and_films_are_refused(form: str) -> None:
    with pytest.raises(Refusal, match="only images are taken"):
        check(forms(DATA)[form])


@pytest.mark.parametrize("form", [form for form in FORMS if form not in OTHERS])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(pngs.url(pngs.GIF, "gif"), "neither PNG nor JPEG", id="another format"),
        pytest.param(pngs.url(pngs.png(1, 1, data=bytes(10**6))), "more data than", id="a bomb"),
        pytest.param(pngs.url(PNG, "png;name=a"), None, id="more said of it"),
        pytest.param(f"data:text/plain;base64,{BARE}", "is no `data:image", id="said to be a text"),
        pytest.param(DATA.replace(";base64", ""), "is no `data:image", id="not said to be base64"),
        pytest.param(f"{DATA[:40]}\n{DATA[40:]}", "is no base64", id="a line break"),
        pytest.param(f"{DATA},{BARE}", "is no base64", id="two in one"),
        pytest.param(BARE.rstrip("=") + "é", "is no base64", id="another letter"),
        pytest.param(BARE[:-3], "is no base64", id="cut"),
        pytest.param("", "neither PNG nor JPEG", id="nothing"),
    ],
)
def test_what_is_in_it_is_looked_at(form: str, content: str, reason: str | None) -> None:
    if reason is None:
        assert check(forms(content)[form]) == 1
        return
    with pytest.raises(Refusal, match=f"image 1 of 1 .*{reason}") as caught:
        check(forms(content)[form])
    assert (caught.value.status, caught.value.code) == (400, "bad_image")


def picture(content: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": pngs.url(content), "detail": "high"}}


def test_a_request_may_have_sixteen_images() -> None:
    assert check(user(*[picture(PNG)] * MAX_IMAGES)) == MAX_IMAGES
    with pytest.raises(Refusal, match="may have 16 images; there are 17"):
        check(user(*[picture(PNG)] * (MAX_IMAGES + 1)))


def test_all_images_of_a_request_have_a_bound_together() -> None:
    large = picture(pngs.png(4096, 4096, depth=1, colour=0))
    assert check(user(large, large)) == 2
    with pytest.raises(Refusal, match="3 of 4 images have 33554632 pixels together; at most 33554432"):
        check(user(large, large, picture(PNG), picture(pngs.GIF)))


def test_a_field_that_is_an_object_hides_no_image() -> None:
    hidden = {"prompt": {"prompt_string": "x", "multimodal_data": {"any": pngs.url(pngs.GIF)}}}
    with pytest.raises(Refusal, match="neither PNG nor JPEG"):
        check(hidden)


def test_what_a_model_gave_a_tool_is_text() -> None:
    given = {"type": "tool_use", "id": "a", "name": "look", "input": {"image_url": URL}}
    data = {"messages": [{"role": "assistant", "content": [given]}]}
    assert check(data, taken=False) == 0


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
    assert check(data, taken=False) == check(data) == 0


def test_a_deep_request_costs_little() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [{"content": deep}]
    began = time.monotonic()
    check({"messages": deep})
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


def test_a_request_with_images_waits_for_a_slot_whatever_it_asks_for() -> None:
    async def scenario() -> tuple[int, int]:
        async with peer(head(b"Content-Length: 2"), b"{}") as (engine, upstream):
            proxy = _proxy(upstream, slots=1, images=True)
            turn = await proxy._gate.queue.enter("other")
            path, body = "/v1/messages/count_tokens", json.dumps(user(picture(PNG))).encode()
            counting = asyncio.create_task(Client(path=path, body=body).call(proxy))
            text = await Client(path=path, body=b'{"messages": []}').call(proxy)
            assert (text.status, len(engine.requests)) == (200, 1)
            assert proxy._gate.queue.waiting == 1
            turn.end()
            client = await counting
            return client.status, proxy._gate.queue.running

    assert asyncio.run(scenario()) == (200, 0)
