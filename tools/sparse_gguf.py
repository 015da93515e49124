"""Writes GGUF files with a right header and no weights: the data section is a hole that takes no disk."""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any

from berth.engine.tensors import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from berth.engine.tensors import Tensor

ALIGNMENT = 32
_SIGNED, _BOOLEAN, _TEXT, _ARRAY = 5, 7, 8, 9


def write(path: Path, metadata: Mapping[str, Any], tensors: Iterable[Tensor]) -> int:
    """Write a file that the engine accepts, and give its size in bytes."""
    tensors = tuple(tensors)
    header = bytearray(b"GGUF" + struct.pack("<Iqq", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        header += _text(key) + _value(value)
    offset = 0
    for tensor in tensors:
        header += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        header += struct.pack(f"<{len(tensor.shape)}q", *tensor.shape)
        header += struct.pack("<IQ", TYPES[tensor.type][0], offset)
        offset += _aligned(tensor.size)
    header += bytes(_aligned(len(header)) - len(header))
    with path.open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + offset)
    return len(header) + offset


def engine_metadata(metadata: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """A model's metadata with what the engine demands beyond its numbers, and no vocabulary."""
    architecture = metadata["general.architecture"]
    needed = {
        "tokenizer.ggml.model": "none",
        f"{architecture}.vocab_size": vocabulary,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.attention.layer_norm_epsilon": 1e-5,
    }
    return {**needed, **metadata}


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value with its type; whole numbers are u32 and lists are of their first entry's type.

    An `array` of signed whole numbers stays one: there are keys that the engine reads in no other form.
    """
    if isinstance(value, array):
        return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _SIGNED, len(value), *value)
    if isinstance(value, list | tuple):
        kind = _kind(value[0])
        entries = b"".join(_plain(kind, entry) for entry in value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + entries
    kind = _kind(value)
    return struct.pack("<I", kind) + _plain(kind, value)


def _kind(value: Any) -> int:
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, str):
        return _TEXT
    return 4 if isinstance(value, int) else 6


def _plain(kind: int, value: Any) -> bytes:
    if kind == _TEXT:
        return _text(value)
    return struct.pack({_BOOLEAN: "<?", 4: "<I", 6: "<f"}[kind], value)
