"""GGUF headers: what a good one says, and that a bad one is refused in time and in little memory."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.engine import gguf, layouts
from berth.engine.metadata import ArraySummary
from berth.engine.tensors import TYPES
from berth.errors import BerthError, InvalidGguf

_LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 64,
    "llama.context_length": 2048,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 2,
}


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, value: Any) -> bytes:
    """One metadata entry; bytes are taken as an already encoded value."""
    if isinstance(value, bytes):
        return text(name) + value
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    return text(name) + struct.pack("<II", 4, value)


def tensor(
    name: str, shape: tuple[int, ...], kind: str = "F32", offset: int = 0, number: int | None = None
) -> bytes:
    info = text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}q", *shape)
    return info + struct.pack("<IQ", TYPES[kind][0] if number is None else number, offset)


def header(
    keys: list[bytes],
    tensors: list[bytes] | None = None,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensors = tensors or []
    body = b"GGUF" + struct.pack("<Iqq", version, *(counts or (len(tensors), len(keys))))
    body += b"".join(keys) + b"".join(tensors)
    return body + bytes(-len(body) % 32)


def read(data: bytes, size: int | None = None) -> gguf.Header:
    return gguf.read_header(io.BytesIO(data), len(data) if size is None else size)


def model() -> bytes:
    """A complete little model, weights and all."""
    found = layouts.preset(_LLAMA, "Q8_0", vocabulary=100)
    infos, offset = [], 0
    for entry in found.tensors:
        infos.append(tensor(entry.name, entry.shape, entry.type, offset))
        offset += -(-entry.size // 32) * 32
    keys = [key(name, value) for name, value in _LLAMA.items()]
    tokens = struct.pack("<IIQ", 9, 8, 100) + b"".join(text(f"t{i}") for i in range(100))
    return header([*keys, key("tokenizer.ggml.tokens", tokens)], infos) + bytes(offset)


@pytest.mark.parametrize("version", [2, 3], ids=["version 2", "version 3"])
def test_a_header_is_read(version: int) -> None:
    data = bytearray(model())
    data[4:8] = struct.pack("<I", version)
    found = read(bytes(data))
    assert found.version == version
    assert found.metadata["llama.embedding_length"] == 64
    assert not found.split
    assert layouts.from_header(found).tensors == found.tensors
    assert layouts.from_header(found).size == layouts.preset(_LLAMA, "Q8_0", vocabulary=100).size
    assert layouts.from_header(found).hyperparameters.vocabulary == 100


def test_a_preset_and_its_file_are_the_same_model() -> None:
    from_file = layouts.from_header(read(model()))
    from_preset = layouts.preset(_LLAMA, "Q8_0", vocabulary=100)
    assert from_file == from_preset


def test_long_arrays_are_counted_and_short_ones_kept() -> None:
    per_layer = struct.pack("<IIQ3I", 9, 4, 3, 8, 0, 8)
    tokens = struct.pack("<IIQ", 9, 8, 5000) + text("token") * 5000
    scores = struct.pack("<IIQ", 9, 6, 5000) + bytes(4 * 5000)
    keys = [key("kv", per_layer), key("tokens", tokens), key("scores", scores), key("after", 7)]
    found = read(header(keys))
    assert found.metadata == {
        "kv": [8, 0, 8],
        "tokens": ArraySummary("text", 5000),
        "scores": ArraySummary("f32", 5000),
        "after": 7,
    }


def test_scalars_of_every_type_are_read() -> None:
    values = {
        "<B": 0, "<b": 1, "<H": 2, "<h": 3, "<I": 4, "<i": 5, "<f": 6, "<?": 7, "<Q": 10, "<q": 11, "<d": 12,
    }  # fmt: skip
    keys = [key(form, struct.pack("<I", kind) + struct.pack(form, 1)) for form, kind in values.items()]
    assert read(header(keys)).metadata == dict.fromkeys(values, 1)


def test_parts_of_a_split_model_are_told() -> None:
    parts = [key("split.count", struct.pack("<IH", 2, 3)), key("split.no", struct.pack("<IH", 2, 1))]
    found = read(header(parts))
    assert (found.split, found.split_count, found.split_number) == (True, 3, 1)


_TWO = [tensor("a", (8,)), tensor("b", (8,), offset=32)]
_BAD: dict[str, bytes] = {
    "an empty file": b"",
    "a text file": b"Once upon a time there was a model, and it was large.",
    "a safetensors file": struct.pack("<Q", 56) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  ',
    "a big-endian file": b"GGUF" + struct.pack(">Iqq", 3, 0, 0) + bytes(8),
    "version 1": header([], version=1),
    "a version of the future": header([], version=4),
    "version 0": header([], version=0),
    "a negative number of tensors": header([], counts=(-1, 0)),
    "a huge number of tensors": header([], counts=(2**62, 0)),
    "a huge number of keys": header([], counts=(0, 2**62)),
    "more keys than there are": header([key("a", 1)], counts=(0, 2)),
    "more tensors than there are": header([], [tensor("a", (8,))], counts=(2, 0)) + bytes(32),
    "a text longer than the file": header([text("x") + struct.pack("<IQ", 8, 2**40)]),
    "a text of 2**64-1 bytes": header([text("x") + struct.pack("<IQ", 8, 2**64 - 1)]),
    "an array longer than the file": header([key("x", struct.pack("<IIQ", 9, 4, 2**61))]),
    "an array of texts longer than the file": header([key("x", struct.pack("<IIQ", 9, 8, 2**61))]),
    "an array whose size overflows": header([key("x", struct.pack("<IIQ", 9, 10, 2**61 + 1))]),
    "arrays in arrays": header([key("x", struct.pack("<IIQIQ", 9, 9, 1, 9, 1))]),
    "an array of an unknown type": header([key("x", struct.pack("<IIQ", 9, 99, 1) + bytes(8))]),
    "a value of an unknown type": header([key("x", struct.pack("<I", 77) + bytes(8))]),
    "a key that occurs twice": header([key("x", 1), key("x", 2)]),
    "an empty key": header([key("", 1)]),
    "a key that is not UTF-8": header([text(b"\xff\xfe") + struct.pack("<II", 4, 1)]),
    "an alignment of zero": header([key("general.alignment", 0)]),
    "an alignment that is no power of two": header([key("general.alignment", 48)]),
    "an alignment that is a text": header([key("general.alignment", "32")]),
    "a split count that is a text": header([key("split.count", "two")]),
    "a tensor that occurs twice": header([], [tensor("a", (8,)), tensor("a", (8,), offset=32)]) + bytes(64),
    "a tensor without a name": header([], [tensor("", (8,))]) + bytes(32),
    "a tensor with a long name": header([], [tensor("n" * 64, (8,))]) + bytes(32),
    "a tensor without dimensions": header([], [tensor("a", ())]) + bytes(32),
    "a tensor of five dimensions": header([], [tensor("a", (1, 1, 1, 1, 1))]) + bytes(32),
    "a tensor with a negative length": header([], [tensor("a", (-8,))]) + bytes(32),
    "a tensor with a length of zero": header([], [tensor("a", (0,))]) + bytes(32),
    "a shape whose product overflows": header([], [tensor("a", (2**32, 2**31))]) + bytes(32),
    "a shape whose product wraps to nothing": header([], [tensor("a", (2**62, 4, 1, 1))]) + bytes(32),
    "a tensor of an unknown type": header([], [tensor("a", (8,), number=999)]) + bytes(32),
    "a tensor of a type that was removed": header([], [tensor("a", (32,), number=4)]) + bytes(32),
    "rows that are no whole blocks": header([], [tensor("a", (100,), "Q4_K")]) + bytes(4096),
    "a gap between tensors": header([], [tensor("a", (8,)), tensor("b", (8,), offset=64)]) + bytes(128),
    "tensors that overlap": header([], [tensor("a", (64,)), tensor("b", (8,), offset=32)]) + bytes(512),
    "tensors out of line": header([], [tensor("a", (9,)), tensor("b", (8,), offset=36)]) + bytes(128),
    "a data section that is cut off": header([], _TWO) + bytes(32),
    "no data section at all": header([], _TWO),
}  # fmt: skip


@pytest.mark.parametrize("data", _BAD.values(), ids=_BAD)
def test_a_bad_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidGguf) as caught:
        read(data)
    assert 10 < len(str(caught.value)) < 300


def test_every_truncation_of_a_model_is_refused() -> None:
    data = model()
    for size in range(0, len(data) - 1, 97):
        with pytest.raises(InvalidGguf):
            read(data[:size])


def test_a_file_that_lies_about_its_length_is_refused() -> None:
    data = model()
    with pytest.raises(InvalidGguf, match="ends within"):
        read(data[:500], size=10**12)


def test_a_hostile_file_takes_no_memory() -> None:
    bombs = [
        header([text("x") + struct.pack("<IQ", 8, 2**35)]),
        header([key("x", struct.pack("<IIQ", 9, 4, 2**35))]),
        header([key("x", struct.pack("<IIQ", 9, 8, 2**35))]),
        header([], counts=(65_536, 65_536)),
    ]
    tracemalloc.start()
    for bomb in bombs:
        with pytest.raises(InvalidGguf):
            read(bomb, size=2**40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_endless_empty_texts_are_refused_in_time() -> None:
    count = gguf.MAX_TEXTS + 1
    data = header([key("x", struct.pack("<IIQ", 9, 8, count) + bytes(8 * count))])
    with pytest.raises(InvalidGguf, match="texts"):
        read(data)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_crashes(noise: bytes) -> None:
    with pytest.raises(InvalidGguf):
        read(b"GGUF\x03\x00\x00\x00" + noise + b"\xff" * 16)


@given(st.integers(0, 2**31), st.integers(0, 255))
def test_a_changed_byte_never_crashes(position: int, value: int) -> None:
    data = bytearray(model())
    end = data.index(b"blk.0") + 200
    data[position % end] = value
    with contextlib.suppress(BerthError):
        layouts.from_header(read(bytes(data)))
