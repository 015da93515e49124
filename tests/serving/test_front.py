"""The front with the real engine and a real model, as its users meet it."""

from __future__ import annotations

import json
import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from tests.serving import fronts
from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine
    from tests.serving.fronts import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECRET = "zebra-crossing-47"
"""In many prompts of this file, and in no log."""
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ENDLESS = {"ignore_eos": True}
"""The engine's own field: an answer is as long as asked for, whatever the model would say on this CPU."""
DISCONNECTS = int(os.environ.get("BERTH_TEST_DISCONNECTS", "200"))
"""Clients that leave in the middle; 2000 take minutes on two busy processors."""
PATIENT, PATIENCE_SECONDS = 0.05, 100.0
"""The share of clients that wait for the beginning of their answer, and how long: all of them must get it."""


@pytest.fixture(scope="module")
def front(engine: Engine, model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with fronts.running(
        engine, model_file, tmp_path_factory.mktemp("front"), "--context-size", "512", "--ui"
    ) as found:
        yield found
        assert SECRET not in found.log


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="any", max_retries=0, timeout=100) as found:
        yield found


def test_the_quick_start_of_the_original_answers(front: Front) -> None:
    prompt = "The capital of France is"
    status, answer = front.post("/chat", {"prompt": prompt, "max_length": 12, "do_sample": False})
    assert status == 200
    assert set(answer) == {"Result"}
    assert answer["Result"].startswith(prompt)
    assert "Paris" in answer["Result"]


def test_a_length_counts_prompt_and_answer_together(front: Front) -> None:
    words = "one two three four five six seven eight"
    long, short = (
        front.post("/chat", {"prompt": words, "max_length": length, "do_sample": False})[1]["Result"]
        for length in (30, 3)
    )
    tokens = front.post("/tokenize", {"content": long})[1]["tokens"]
    assert len(tokens) <= 31
    assert len(short) < len(long)
    assert short.startswith(words)


def test_several_sequences_come_one_after_the_other(front: Front) -> None:
    _, answer = front.post("/chat", {"prompt": SECRET, "max_length": 12, "num_return_sequences": 3})
    assert answer["Result"].count(SECRET) >= 3


def test_dialogs_of_llama_are_answered_as_a_batch(front: Front) -> None:
    dialogs = [
        [{"role": "user", "content": SECRET}],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    ]
    status, answer = front.post(
        "/chat", {"input_data": {"input_string": dialogs}, "parameters": {"max_gen_len": 4, "temperature": 0}}
    )
    assert status == 200
    assert [[turn["role"] for turn in dialog] for dialog in answer["results"]] == [
        ["User", "Assistant"],
        ["System", "User", "Assistant"],
    ]
    assert all(dialog[-1]["content"] for dialog in answer["results"])


def test_prompts_of_llama_are_continued_as_a_batch(front: Front) -> None:
    status, answer = front.post(
        "/generate",
        {"prompts": ["One two three", "A b c"], "parameters": {"max_gen_len": 3, "temperature": 0}},
    )
    assert status == 200
    assert [result["prompt"] for result in answer["results"]] == ["One two three", "A b c"]
    assert all(result["response"] for result in answer["results"])


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        pytest.param("/chat", b'{"prompt": "x", "num_beams": 4}', "num_beams", id="a parameter by name"),
        pytest.param("/chat", b'{"prompt": ', "no JSON", id="broken JSON"),
        pytest.param("/chat", b"{}", "prompt", id="nothing"),
        pytest.param("/generate", b'{"prompts": []}', "prompts", id="an empty batch"),
        pytest.param(
            "/chat",
            json.dumps({"prompt": "word " * 900}).encode(),
            "context size",
            id="a prompt beyond the slot",
        ),
    ],
)
def test_a_wrong_request_is_a_400_with_its_reason(front: Front, path: str, body: bytes, detail: str) -> None:
    status, text = front.request("POST", path, body)
    assert status == 400
    assert detail in json.loads(text)["detail"]


def test_health_and_home_answer_as_the_original(front: Front) -> None:
    assert front.get("/healthz") == (200, '{"status":"Healthy"}')
    assert front.get("/") == (200, '"Server is running"')
    assert front.request("POST", "/shutdown", b"{}")[0] == 404
    assert front.get("/healthz")[0] == 200


def test_readiness_tells_the_state_of_model_and_weights(front: Front) -> None:
    status, text = front.get("/readyz")
    assert status == 200
    assert json.loads(text) == {"status": "ready", "progress": 1.0, "model": "smol", "weights": "Unpinned"}


def test_openais_client_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smol", messages=[{"role": "user", "content": SECRET}], max_tokens=4, extra_body=ENDLESS
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_openais_client_streams_token_by_token(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smol",
        messages=[{"role": "user", "content": "Count to ten."}],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=ENDLESS,
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len([text for text in texts if text]) >= 4
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def test_a_json_schema_is_obeyed(client: openai.OpenAI) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"sunny": {"type": "boolean"}},
        "required": ["sunny"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="smol",
        messages=[{"role": "user", "content": "Is the sky blue?"}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": schema, "strict": True},
        },
        max_tokens=150,  # the grammar lets it write blanks
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["sunny"], bool)


def test_a_template_without_tools_answers_in_words(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smol",
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        max_tokens=4,
        extra_body=ENDLESS,
    )
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_openais_other_apis_pass(client: openai.OpenAI) -> None:
    one: Any = {"model": "smol", "extra_body": ENDLESS}
    assert client.completions.create(**one, prompt="One two", max_tokens=2).choices[0].text
    assert client.responses.create(**one, input="Hi", max_output_tokens=3).output_text
    assert [model.id for model in client.models.list()] == ["smol"]
    assert client.models.retrieve("smol").id == "smol"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_what_this_model_cannot_do_is_said_by_the_engine(client: openai.OpenAI, front: Front) -> None:
    with pytest.raises(openai.APIStatusError, match="does not support embeddings") as caught:
        client.embeddings.create(model="smol", input="Hi")
    assert caught.value.status_code == 501
    assert front.post("/v1/rerank", {"query": "a", "documents": ["b"]})[0] == 501


def test_anthropics_client_chats_and_streams(front: Front) -> None:
    """The engine takes no field of its own here, so an answer may end early; it never begins with its end."""
    messages = [{"role": "user", "content": f"What is a {SECRET}?"}]
    question: Any = {"model": "smol", "max_tokens": 4, "messages": messages}
    certain = {**question, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=front.url, api_key="any", max_retries=0, timeout=100) as client:
        answer = client.messages.create(**certain)
        assert answer.content[0].type == "text"
        assert 1 < answer.usage.output_tokens <= 4
        assert answer.stop_reason == ("max_tokens" if answer.usage.output_tokens == 4 else "end_turn")
        with client.messages.stream(**certain) as stream:
            assert "".join(stream.text_stream)
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**question, extra_body={"temperature": "warm"})


def test_bytes_are_those_of_the_engine(front: Front) -> None:
    engine_port = int(front.log.split(" --port ")[1].split(" ")[0])
    for path in ("/props", "/v1/models", "/lora-adapters"):
        first, second = json.loads(front.get(path)[1]), json.loads(front.get(path, engine_port)[1])
        assert {**first, "data": 0} == {**second, "data": 0} if isinstance(first, dict) else first == second
    body = json.dumps(
        {"prompt": "One two", "n_predict": 3, "temperature": 0, "stream": True, **ENDLESS}
    ).encode()
    through, direct = (
        front.request("POST", "/completion", body, port=port)[1].split("\n\n")[:3]
        for port in (None, engine_port)
    )
    assert through == direct


def test_nobody_changes_the_adapters_of_everybody(front: Front) -> None:
    body = json.dumps([{"id": 0, "scale": 0}]).encode()
    assert front.request("POST", "/lora-adapters", body)[0] == 405


def test_no_other_page_may_use_the_api(front: Front) -> None:
    assert front.request("OPTIONS", "/v1/models", headers={"Origin": "http://other"})[0] == 405
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as raw:
        raw.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: http://other\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b" 200 OK" in answer
    assert b"access-control" not in answer.lower()


def test_sixty_four_clients_at_once_are_all_answered(front: Front) -> None:
    def ask(number: int) -> int:
        return front.post("/completion", {"prompt": str(number), "n_predict": 1})[0]

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, range(64))) == [200] * 64
    assert front.metric("berth_queue_seconds_count") >= 64


@pytest.mark.timeout(300 + DISCONNECTS // 2)
def test_clients_that_leave_at_random_leak_no_slot_and_starve_nobody(front: Front) -> None:
    chance = random.Random(7)
    bodies = {
        path: json.dumps({**more, "stream": True, **ENDLESS}).encode()
        for path, more in {
            "/completion": {"prompt": SECRET, "n_predict": 400},
            "/v1/chat/completions": {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 400},
        }.items()
    }
    cut = front.metric("berth_streams_cut_total")

    def leave(path: str, seconds: float, pieces: int, whole: bool) -> bool:
        """Ask, read a little or nothing, and go; say whether an answer begun if that was waited for."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(bodies[path])}\r\n\r\n".encode()
        request = head + bodies[path]
        read = b""
        with socket.create_connection(("127.0.0.1", front.port), timeout=100) as raw:
            raw.sendall(request if whole else request[: chance.randrange(len(request))])
            raw.settimeout(seconds if whole else 0.05)  # half a request gets no answer
            try:
                for _ in range(pieces):
                    read += raw.recv(256)
            except TimeoutError:
                pass
        return b" 200 OK" in read or seconds < PATIENCE_SECONDS

    def client(path: str, patient: bool) -> tuple[str, float, int, bool]:
        if patient:
            return path, PATIENCE_SECONDS, chance.randrange(1, 5), True
        return path, chance.random() / 10, chance.randrange(5), chance.random() > 0.1

    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(leave, *client(chance.choice(sorted(bodies)), chance.random() < PATIENT))
            for _ in range(DISCONNECTS)
        ]
    assert all(one.result() for one in asked)
    assert front.metric("berth_streams_cut_total") - cut > DISCONNECTS / 10

    def at_rest() -> bool:
        return front.metric("berth_slots_running") == front.metric("berth_queue_waiting") == 0

    wait_until(at_rest, "every turn is given back", 60)
    wait_until(lambda: front.metric("llamacpp:requests_processing") == 0, "the engine's slots are free", 60)
    with ThreadPoolExecutor(4) as pool:  # as many as there are slots, and each must be one of them
        body = {"prompt": "Hi", "n_predict": 24, **ENDLESS}
        answers = list(pool.map(lambda _: front.post("/completion", body), range(4)))
    assert [status for status, _ in answers] == [200] * 4
    assert {answer["id_slot"] for _, answer in answers} == {0, 1, 2, 3}


def test_metrics_have_their_own_port_and_include_the_engines(front: Front) -> None:
    front.post("/completion", {"prompt": "Hi", "n_predict": 8, **ENDLESS})
    assert front.metric("berth_time_to_first_token_seconds_count") > 0
    assert front.metric("berth_inter_token_seconds_count") > 0
    assert front.metric("berth_completion_tokens_sum") > 4
    assert front.metric("llamacpp:tokens_predicted_total") > 4
    assert front.metric("berth_engine_ready") == 1
    assert front.metric("berth_front_resident_bytes") < 100 * 2**20
    assert front.get("/metrics")[0] == 404
    assert front.get("/chat", front.metrics_port)[0] == 404


def test_the_engine_shows_how_far_it_has_loaded(front: Front) -> None:
    assert front.metric("berth_engine_load_ratio") == 1.0
