"""What an answer cost, read from the bytes that pass."""

from __future__ import annotations

import pytest

from serving.counting import Counter, Usage

CHAT = (
    b'{"choices":[{"message":{"content":"Hi"}}],"usage":{"completion_tokens":3,"prompt_tokens":31,'
    b'"total_tokens":34},"timings":{"cache_n":30,"prompt_n":1,"predicted_n":3,"predicted_ms":1500.5}}'
)
CHAT_STREAM = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n',
    b'data: {"choices":[{"delta":{}}],"timings":{"cache_n":4,"prompt_n":31,"predicted_n":2,'
    b'"predicted_ms":10.0}}\n\ndata: [DONE]\n\n',
)
MESSAGES_STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
    b'{"cache_read_input_tokens":30,"input_tokens":1,"output_tokens":0}}}\n\n',
    b'event: content_block_delta\ndata: {"delta":{"text":"Hi"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":3}}\n\n',
)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([CHAT], Usage(31, 3, 1.5005), id="OpenAI's document"),
        pytest.param(CHAT_STREAM, Usage(35, 2, 0.01), id="OpenAI's stream without usage"),
        pytest.param(MESSAGES_STREAM, Usage(31, 3), id="Anthropic's stream"),
        pytest.param(CHAT_STREAM[:2], Usage(0, 2), id="a stream that was cut: its events"),
        pytest.param(
            [b'{"data":[' + b"0.125," * 5000 + b'0],"usage":{"prompt_tokens":7,"total_tokens":7}}'],
            Usage(7, 0),
            id="a long document with usage at its end",
        ),
        pytest.param(
            [b'{"usage":{"prompt_tokens":7,"total_tokens":7},"data":[' + b"0.125," * 5000 + b"0]}"],
            Usage(7, 0),
            id="a long document with usage at its start",
        ),
        pytest.param([b'{"error":{"message":"no"}}'], Usage(), id="an error"),
        pytest.param(
            [
                b'{"prompt_tokens":..,"completion_tokens":1.2.3,"prompt_n":'
                + b"9" * 400
                + b',"predicted_n":2}'
            ],
            Usage(0, 2),
            id="what is no number counts as none",
        ),
        pytest.param([], Usage(), id="nothing"),
        pytest.param(
            [b'data: {"delta":{"content":", \\"completion_tokens\\": 999999"}}\n\n'],
            Usage(0, 1),
            id="a model that writes such text forges nothing",
        ),
    ],
)
def test_usage(pieces: list[bytes], expected: Usage) -> None:
    counter = Counter()
    for piece in pieces:
        counter.feed(piece)
    assert counter.usage() == expected


def test_a_comment_that_keeps_a_stream_alive_is_no_event() -> None:
    counter = Counter()
    assert counter.feed(b":\n\n") == 0
    assert counter.feed(b"data: {}\n\ndata: {}\n\n") == 2


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_pieces_of_any_size_give_the_same(size: int) -> None:
    counter = Counter()
    for start in range(0, len(CHAT), size):
        counter.feed(CHAT[start : start + size])
    assert counter.usage() == Usage(31, 3, 1.5005)
