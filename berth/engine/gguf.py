"""Reads the header of a GGUF file: its metadata and where its tensors lie, never the weights.

A header comes from anywhere, so nothing in it is believed: every length is compared with what is left of
the file before memory is taken for it, long arrays are counted and forgotten, and whatever the engine would
refuse is refused here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.engine.metadata import ArraySummary
from berth.engine.tensors import BY_NUMBER, TYPES, Tensor
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

MAGIC = b"GGUF"
MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEPT = 4_096
"""Arrays with more entries are kept as a summary; per-layer arrays have at most 512."""
MAX_TEXT = 64 * 2**20
MAX_TEXTS = 2_000_000
"""In all arrays together; the largest vocabularies and their merges have less than a million."""
MAX_NAME = 64
MAX_DIMENSIONS = 4
MAX_HEADER = 128 * 2**20
CHUNK = 2**20
_TEXT, _ARRAY = 8, 9
_SCALARS: dict[int, tuple[str, str]] = {
    0: ("u8", "<B"), 1: ("i8", "<b"), 2: ("u16", "<H"), 3: ("i16", "<h"), 4: ("u32", "<I"), 5: ("i32", "<i"),
    6: ("f32", "<f"), 7: ("bool", "<?"), 10: ("u64", "<Q"), 11: ("i64", "<q"), 12: ("f64", "<d"),
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself."""

    version: int
    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    file_size: int
    split_count: int
    split_number: int

    @property
    def split(self) -> bool:
        """Whether this is one part of several, so that the tensors are not all of the model's."""
        return self.split_count > 1


def read_header(stream: BinaryIO, file_size: int) -> Header:
    """Read a header from the start of a file.

    Args:
        stream: the file, at its beginning.
        file_size: its length in bytes.

    Raises:
        InvalidGguf: it is no GGUF, of a version or byte order that is not read, truncated or hostile.
    """
    cursor = _Cursor(stream, file_size)
    version = _version(cursor)
    tensor_count, key_count = cursor.number("<q"), cursor.number("<q")
    if not 0 <= tensor_count <= MAX_TENSORS:
        raise InvalidGguf(f"it claims {tensor_count} tensors; {MAX_TENSORS} is the most that is read")
    if not 0 <= key_count <= MAX_KEYS:
        raise InvalidGguf(f"it claims {key_count} metadata keys; {MAX_KEYS} is the most that is read")
    metadata = _metadata(cursor, key_count)
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not _power_of_two(alignment):
        raise InvalidGguf(f"general.alignment is {alignment!r}, which is no power of two")
    infos = _tensor_infos(cursor, tensor_count)
    data_offset = -(-cursor.position // alignment) * alignment
    _check_data(infos, alignment, data_offset, file_size)
    return Header(
        version=version,
        metadata=metadata,
        tensors=tuple(tensor for tensor, _ in infos),
        alignment=alignment,
        data_offset=data_offset,
        file_size=file_size,
        split_count=_small(metadata, "split.count"),
        split_number=_small(metadata, "split.no"),
    )


class _Cursor:
    """Reads forward through a header, and never past the end of the file."""

    def __init__(self, stream: BinaryIO, file_size: int) -> None:
        self.stream = stream
        self.file_size = file_size
        self.limit = min(file_size, MAX_HEADER)
        self.position = 0
        self.texts = 0
        self._buffer = b""
        self._at = 0

    def take(self, length: int) -> bytes:
        """The next bytes."""
        self.need(length)
        end = self._at + length
        if end > len(self._buffer):
            self._fill(length)
            end = length
        data = self._buffer[self._at : end]
        self._at = end
        self.position += length
        return data

    def _fill(self, length: int) -> None:
        """Let the buffer begin here and hold at least `length` bytes."""
        rest = self._buffer[self._at :]
        wanted = max(length - len(rest), min(CHUNK, self.limit - self.position - len(rest)))
        self._buffer = rest + self.stream.read(wanted)
        self._at = 0
        if len(self._buffer) < length:
            raise InvalidGguf(f"the file ends within its header, at byte {self.position + len(self._buffer)}")

    def need(self, length: int) -> None:
        """Refuse what reaches past the end of the file, before any memory is taken for it."""
        if length <= self.limit - self.position:
            return
        if self.position + length > self.file_size:
            raise InvalidGguf(
                f"the file ends within its header: {length} bytes wanted at byte {self.position} of "
                f"{self.file_size}"
            )
        raise InvalidGguf(f"the header is longer than {MAX_HEADER} bytes")

    def skip(self, length: int) -> None:
        """Pass over bytes in pieces, so that a long array takes no memory."""
        self.need(length)
        while length > 0:
            length -= len(self.take(min(length, CHUNK)))

    def number(self, form: str) -> Any:
        """One scalar in a `struct` form."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        """One text."""
        try:
            return self.take(self._text_length()).decode()
        except UnicodeDecodeError:
            raise InvalidGguf(f"a text before byte {self.position} is not UTF-8") from None

    def skip_texts(self, count: int) -> None:
        """Pass over texts; a vocabulary has hundreds of thousands, so this goes through the buffer itself."""
        length_at = struct.Struct("<Q").unpack_from
        while count:
            buffer, at, end = self._buffer, self._at, len(self._buffer)
            while count and at + 8 <= end:
                behind = at + 8 + length_at(buffer, at)[0]
                if behind > end:
                    break
                at = behind
                count -= 1
            self.position += at - self._at
            self._at = at
            if count:
                self.skip(self._text_length())
                count -= 1

    def _text_length(self) -> int:
        length: int = self.number("<Q")
        if length > MAX_TEXT:
            raise InvalidGguf(f"a text of {length} bytes at byte {self.position}")
        return length


def _version(cursor: _Cursor) -> int:
    if cursor.file_size < 24:
        raise InvalidGguf(f"the file has {cursor.file_size} bytes, too few for a GGUF header")
    magic = cursor.take(4)
    if magic != MAGIC:
        raise InvalidGguf("it is no GGUF file: it does not begin with the letters GGUF")
    version: int = cursor.number("<I")
    if version & 0xFFFF == 0 and version:
        raise InvalidGguf("it is a big-endian GGUF; the engine reads little-endian files here")
    if version not in (2, 3):
        raise InvalidGguf(f"it is a GGUF of version {version}; versions 2 and 3 are read")
    return version


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text()
        if not key:
            raise InvalidGguf("a metadata key is empty")
        if key in metadata:
            raise InvalidGguf(f"the metadata key {key[:100]!r} occurs twice")
        metadata[key] = _value(cursor, key)
    return metadata


def _value(cursor: _Cursor, key: str) -> Any:
    kind = cursor.number("<I")
    if kind == _TEXT:
        return cursor.text()
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind][1])
    if kind != _ARRAY:
        raise InvalidGguf(f"the metadata key {key[:100]!r} has the unknown type {kind}")
    return _array(cursor, key)


def _array(cursor: _Cursor, key: str) -> Any:
    kind, length = cursor.number("<I"), cursor.number("<Q")
    if kind == _TEXT:
        cursor.need(8 * length)
        cursor.texts += length
        if cursor.texts > MAX_TEXTS:
            raise InvalidGguf(f"its arrays hold more than {MAX_TEXTS} texts")
        if length <= MAX_KEPT:
            return [cursor.text() for _ in range(length)]
        cursor.skip_texts(length)
        return ArraySummary("text", length)
    if kind not in _SCALARS:
        raise InvalidGguf(f"the metadata key {key[:100]!r} is an array of the unsupported type {kind}")
    name, form = _SCALARS[kind]
    size = struct.calcsize(form)
    cursor.need(size * length)
    if length > MAX_KEPT:
        cursor.skip(size * length)
        return ArraySummary(name, length)
    return list(struct.unpack(f"<{length}{form[1:]}", cursor.take(size * length)))


def _tensor_infos(cursor: _Cursor, count: int) -> list[tuple[Tensor, int]]:
    infos: list[tuple[Tensor, int]] = []
    names: set[str] = set()
    for _ in range(count):
        name = cursor.text()
        if not name or len(name.encode()) >= MAX_NAME:
            raise InvalidGguf(f"a tensor is called {name[:100]!r}; names have 1 to {MAX_NAME - 1} bytes")
        if name in names:
            raise InvalidGguf(f"the tensor {name} occurs twice")
        names.add(name)
        dimensions = cursor.number("<I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise InvalidGguf(f"tensor {name} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")
        shape = struct.unpack(f"<{dimensions}q", cursor.take(8 * dimensions))
        number, offset = cursor.number("<I"), cursor.number("<Q")
        if number not in BY_NUMBER:
            raise InvalidGguf(f"tensor {name} has the unknown type {number}")
        infos.append((_tensor(name, shape, BY_NUMBER[number]), offset))
    return infos


def _tensor(name: str, shape: tuple[int, ...], kind: str) -> Tensor:
    """A tensor whose size is sensible; the product is built step by step, so that it cannot overflow."""
    elements = 1
    for length in shape:
        elements *= length
        if length <= 0 or elements >= 2**63:
            raise InvalidGguf(f"tensor {name} has the impossible shape {list(shape)}")
    if shape[0] % TYPES[kind][1]:
        raise InvalidGguf(f"tensor {name} has rows of {shape[0]}, which are not whole blocks of {kind}")
    return Tensor(name, shape, kind)


def _check_data(infos: list[tuple[Tensor, int]], alignment: int, data_offset: int, file_size: int) -> None:
    """The engine wants tensors back to back, each aligned; and they must lie within the file."""
    expected = 0
    for tensor, offset in infos:
        if offset != expected:
            raise InvalidGguf(f"tensor {tensor.name} lies at {offset} and not at {expected}, behind the last")
        if data_offset + offset + tensor.size > file_size:
            raise InvalidGguf(
                f"the file is truncated: tensor {tensor.name} ends at byte "
                f"{data_offset + offset + tensor.size} of {file_size}"
            )
        expected = offset + -(-tensor.size // alignment) * alignment


def _power_of_two(number: int) -> bool:
    return 0 < number <= 2**20 and number & (number - 1) == 0


def _small(metadata: Mapping[str, Any], key: str) -> int:
    value = metadata.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65_535:
        raise InvalidGguf(f"{key} is {value!r}, which is no sensible whole number")
    return value
