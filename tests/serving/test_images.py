"""Images through the front into the real engine, as the official clients send them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from berth import argv, plans
from generator.charts import weights
from tests.serving import fronts, pngs, tiny_projectors
from tests.serving.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine
    from tests.serving.fronts import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOKENS = 64
"""Of an image of this projector."""
PNG = tiny_projectors.picture(300, 200)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text model, and a projector for it."""
    folder = tmp_path_factory.mktemp("pair")
    text = tiny_projectors.write_text(folder / "text.gguf")
    return text, tiny_projectors.write(folder / "mmproj.gguf", "gemma3")


@pytest.fixture(scope="module")
def front(
    engine: Engine, pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    text, projector = pair
    told = f"{projector}:{projector.stat().st_size}"
    arguments = ("--mmproj", told, "--context-size", "2048", "--parallel", "2")
    with fronts.running(engine, text, tmp_path_factory.mktemp("front"), *arguments) as found:
        yield found


@pytest.fixture
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="any", max_retries=0, timeout=100) as found:
        yield found


@pytest.fixture
def other(front: Front) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=front.url, api_key="any", max_retries=0, timeout=100) as found:
        yield found


def openai_parts(*contents: bytes, kind: str = "png") -> list[Any]:
    images = [{"type": "image_url", "image_url": {"url": pngs.url(one, kind)}} for one in contents]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *images]}]


def anthropic_parts(content: bytes) -> list[Any]:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(content).decode()}
    image = {"type": "image", "source": source}
    return [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        pytest.param(PNG, "png", id="a PNG"),
        pytest.param(pngs.png(64, 64, depth=16, colour=6, interlaced=True), "png", id="an interlaced one"),
        pytest.param(pngs.png(9, 9, depth=1, colour=3), "png", id="one with a palette"),
        pytest.param(pngs.JPEG, "jpeg", id="a JPEG"),
        pytest.param(pngs.PROGRESSIVE, "jpeg", id="a progressive JPEG"),
        pytest.param(pngs.png(1, 1), "png", id="a pixel"),
        pytest.param(pngs.png(1, 100), "png", id="a line"),
        pytest.param(pngs.png(4096, 4096), "png", id="the largest that is taken"),
    ],
)
def test_openais_client_asks_about_an_image(client: openai.OpenAI, content: bytes, kind: str) -> None:
    found = client.chat.completions.create(
        model="smol", messages=openai_parts(content, kind=kind), max_tokens=3
    )
    assert found.usage is not None
    assert found.usage.prompt_tokens > TOKENS
    assert found.usage.completion_tokens >= 1


def test_two_images_of_a_stream_are_both_read_and_booked(front: Front, client: openai.OpenAI) -> None:
    booked = front.metric("berth_prompt_tokens_sum")
    events = list(
        client.chat.completions.create(
            model="smol", messages=openai_parts(PNG, pngs.JPEG), max_tokens=4, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    usage = events[-1].usage
    assert usage is not None
    assert usage.prompt_tokens > 2 * TOKENS
    booked += usage.prompt_tokens
    wait_until(lambda: front.metric("berth_prompt_tokens_sum") == booked, "the tokens are booked")


@pytest.mark.parametrize("stream", [False, True], ids=["at once", "as a stream"])
def test_the_responses_api_takes_an_image(client: openai.OpenAI, stream: bool) -> None:
    image = {"type": "input_image", "image_url": pngs.url(PNG), "detail": "auto"}
    parts: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]
    if stream:
        *_, last = client.responses.create(model="smol", input=parts, max_output_tokens=16, stream=True)
        assert last.type == "response.completed"
        usage = last.response.usage
    else:
        usage = client.responses.create(model="smol", input=parts, max_output_tokens=16).usage
    assert usage is not None
    assert usage.input_tokens > TOKENS


def test_anthropics_client_asks_about_an_image(other: anthropic.Anthropic) -> None:
    messages = anthropic_parts(PNG)
    answer = other.messages.create(model="smol", max_tokens=3, messages=messages)
    assert answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0) > TOKENS
    with other.messages.stream(model="smol", max_tokens=3, messages=messages) as stream:
        assert stream.get_final_message().usage.output_tokens >= 1
    assert other.messages.count_tokens(model="smol", messages=messages).input_tokens > TOKENS


def test_clients_see_why_an_image_is_refused(client: openai.OpenAI, other: anthropic.Anthropic) -> None:
    bomb = pngs.png(1, 1, data=bytes(10**7))
    with pytest.raises(openai.BadRequestError, match="image 2 of 2 is a PNG with more data") as caught:
        client.chat.completions.create(model="smol", messages=openai_parts(PNG, bomb))
    assert caught.value.code == "bad_image"
    with pytest.raises(anthropic.BadRequestError, match="neither PNG nor JPEG"):
        other.messages.create(model="smol", max_tokens=3, messages=anthropic_parts(pngs.GIF))


def test_an_image_that_only_the_decoder_finds_broken_is_refused_and_harms_nobody(front: Front) -> None:
    broken = pngs.JPEG[:300] + b"\xff\xd9"
    without_palette = pngs.png(9, 9, depth=8, colour=3).replace(b"PLTE", b"pLTE")
    for content in (broken[:170], without_palette):
        status, _ = front.post("/v1/chat/completions", {"messages": openai_parts(content)})
        assert status == 400
    assert front.ready()
    assert front.metric("berth_engine_restarts") == 0


def test_a_text_that_stands_for_images_that_are_not_there_harms_nobody(front: Front) -> None:
    marker = json.loads(front.get("/props")[1])["media_marker"]
    asked = openai_parts(PNG)
    asked[0]["content"][0]["text"] = f"{marker} and {marker}"
    status, _ = front.post("/v1/chat/completions", {"messages": asked, "max_tokens": 1})
    assert status == 400
    status, _ = front.post("/completion", {"prompt": marker, "n_predict": 1})
    assert status == 200
    prompt = {"prompt_string": marker, "multimodal_data": [pngs.url(PNG).partition(",")[2]]}
    assert front.post("/completion", {"prompt": prompt, "n_predict": 1})[0] == 200
    many = {**prompt, "prompt_string": marker * 3}
    assert front.post("/completion", {"prompt": many, "n_predict": 1})[0] == 400
    assert front.metric("berth_engine_restarts") == 0


def test_sounds_are_refused_in_every_form(front: Front) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": pngs.url(PNG).partition(",")[2], "format": "wav"}}
    asked = {"messages": [{"role": "user", "content": [sound]}]}
    status, answer = front.post("/v1/chat/completions", asked)
    assert (status, answer["error"]["code"]) == (400, "images_only")
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        b"RIFF\x24\0\0\0WAVE\r\n--x--\r\n"
    )
    kind = {"content-type": "multipart/form-data; boundary=x"}
    status, text = front.request("POST", "/v1/audio/transcriptions", form, kind)
    assert status >= 400
    assert "audio" in text
    assert front.ready()


def test_more_images_than_a_slot_holds_are_refused(front: Front) -> None:
    many = openai_parts(*[PNG] * 16) + openai_parts(PNG)
    status, answer = front.post("/v1/chat/completions", {"messages": many})
    assert (status, answer["error"]["code"]) == (400, "bad_image")
    long = openai_parts(*[PNG] * 16)
    long[0]["content"][0]["text"] = "a" * 1500
    status, answer = front.post("/v1/chat/completions", {"messages": long})
    assert status == 400
    assert "context" in answer["error"]["message"]


def test_a_text_costs_no_image(front: Front) -> None:
    status, answer = front.post("/v1/completions", {"prompt": "What is it?", "max_tokens": 2})
    assert status == 200
    assert answer["usage"]["prompt_tokens"] < TOKENS


def test_the_model_tells_that_it_takes_images(front: Front, client: openai.OpenAI) -> None:
    listed = json.loads(front.get("/v1/models")[1])
    assert listed["models"][0]["capabilities"] == ["completion", "multimodal"]
    assert json.loads(front.get("/v1/models/smol")[1])["capabilities"] == ["completion", "multimodal"]
    assert json.loads(front.get("/readyz")[1])["projector"] == "Unpinned"
    assert front.metric("berth_projector") == 1
    assert client.models.retrieve("smol").id == "smol"


def test_an_engine_that_dies_over_an_image_is_told_and_started_again(
    engine: Engine, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    text, projector = pair
    arguments = ("--mmproj", str(projector), "--context-size", "1024", "--parallel", "1")
    asked = {"messages": openai_parts(PNG), "max_tokens": 2}
    with fronts.running(engine, text, tmp_path, *arguments) as front, ThreadPoolExecutor(1) as pool:
        first = front.engine_pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        answer = pool.submit(front.post, "/v1/chat/completions", asked)
        wait_until(lambda: front.metric("berth_slots_running") == 1, "the request is inside")
        os.kill(first, signal.SIGKILL)
        status, told = answer.result(60)
        assert (status, told["error"]["code"]) == (502, "engine_gone")
        wait_until(lambda: front.engine_pid not in (None, first) and front.ready(), "the next engine", 60)
        assert front.post("/v1/chat/completions", asked)[0] == 200


SHAPES = [(1, 1), (1, 100), (100, 1), (40, 4000), (4000, 40), (4096, 4096)]


@pytest.mark.parametrize("name", tiny_projectors.KINDS)
def test_no_shape_that_is_taken_harms_an_engine(engine: Engine, tmp_path: Path, name: str) -> None:
    text = tiny_projectors.write_text(tmp_path / "text.gguf")
    projector = tiny_projectors.write(tmp_path / "mmproj.gguf", name)
    arguments = ("--mmproj", str(projector), "--context-size", "8192", "--parallel", "1")
    with fronts.running(engine, text, tmp_path, *arguments) as front:
        for width, height in SHAPES:
            asked = {"messages": openai_parts(pngs.png(width, height)), "max_tokens": 1}
            assert front.post("/v1/chat/completions", asked)[0] == 200, (width, height)
        assert front.metric("berth_engine_restarts") == 0


def as_a_pod(pair: tuple[Path, Path], sha256: str | None = None) -> list[str]:
    """What charts write of a plan, but for the places of files."""
    text, projector = pair
    size, digest = projector.stat().st_size, hashlib.sha256(projector.read_bytes()).hexdigest()
    planned = plans.Projector(
        file=str(projector), size=size, sha256=sha256 or digest, pinned=True, image_tokens=66,
        batch_tokens=1024,
    )  # fmt: skip
    server = plans.Server(
        model="smol", alias="smol", quantization="F16", context_size=1024, parallel=1, gpu_layers=0, gpus=1,
        mmproj=planned,
    )  # fmt: skip
    command = argv.llama_server(server, str(text))
    command[command.index("--port") + 1] = str(free_port())
    return [*weights.projector_arguments(planned), "--", *command]


def test_a_pods_command_serves_images_with_a_pinned_projector(
    engine: Engine, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with fronts.running(engine, pair[0], tmp_path, *as_a_pod(pair)) as front:
        asked = {"messages": openai_parts(PNG), "max_tokens": 1}
        assert front.post("/v1/chat/completions", asked)[0] == 200
        assert "projector: Pinned" in front.log
        assert (
            'berth_projector{model="smol",state="Pinned"} 1.0' in front.get("/metrics", front.metrics_port)[1]
        )


def test_a_pod_serves_nothing_with_another_projector(
    engine: Engine, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    with fronts.running(engine, pair[0], tmp_path, *as_a_pod(pair, "0" * 64), wait=False) as front:
        assert front.process.wait(60) == 65
        assert "mmproj.gguf is not what was promised" in front.log
