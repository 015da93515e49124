"""Reads what an answer cost from the bytes that pass, without changing or delaying them.

The engine writes numbers of tokens and its own times into the first or last event of a stream, or at an end
of a JSON document, so only the two ends are kept. A key counts only right after `{` or `,`: inside a string
of JSON its quotes would be escaped, so no model can forge them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD, _TAIL = 4096, 16384
_NUMBER = re.compile(
    rb'[{,]\s*"(prompt_tokens|completion_tokens|input_tokens|output_tokens|cache_read_input_tokens|'
    rb'prompt_n|cache_n|predicted_n|predicted_ms|tokens_evaluated|tokens_predicted)"\s*:\s*([0-9]{1,15}(?:\.[0-9]+)?)(?![0-9.])'
)


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; `generation_seconds` is the engine's own, where it told."""

    prompt: int = 0
    completion: int = 0
    generation_seconds: float | None = None


class Counter:
    """Fed with an answer's pieces in order."""

    def __init__(self) -> None:
        self.events = 0
        """Server-sent events so far: all that is known of a stream that was cut."""
        self._head = b""
        self._tail = b""

    def feed(self, piece: bytes) -> int:
        """Take a piece and return how many events of data begin in it; comments are none."""
        if len(self._head) < _HEAD:
            self._head += piece[: _HEAD - len(self._head)]
        self._tail = (self._tail + piece)[-_TAIL:] if len(piece) < _TAIL else piece[-_TAIL:]
        found = piece.count(b"data: ") if piece.startswith((b"data: ", b"event: ")) else 0
        self.events += found
        return found

    def usage(self) -> Usage:
        """Return what the answer says of itself, the last word counting; events where it says nothing."""
        found: dict[bytes, float] = {}
        for text in (self._head, self._tail):
            for name, number in _NUMBER.findall(text):
                found[name] = float(number)

        def first(*names: bytes) -> float | None:
            return next((found[name] for name in names if name in found), None)

        prompt = first(b"prompt_tokens")
        if prompt is None and b"input_tokens" in found:
            prompt = found[b"input_tokens"] + found.get(b"cache_read_input_tokens", 0)
        if prompt is None:
            prompt = first(b"tokens_evaluated")
        if prompt is None and b"prompt_n" in found:
            prompt = found[b"prompt_n"] + found.get(b"cache_n", 0)
        completion = first(b"completion_tokens", b"output_tokens", b"predicted_n", b"tokens_predicted")
        if not completion:
            completion = self.events if completion is None else 0
        milliseconds = found.get(b"predicted_ms")
        return Usage(int(prompt or 0), int(completion), None if milliseconds is None else milliseconds / 1000)
