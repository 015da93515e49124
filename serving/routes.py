"""The engine's paths that clients may use. The rest is out of reach: `/slots`, tools, files.

`generates` marks what takes a slot of the engine and so a turn in the queue.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """How a path is passed on."""

    generates: bool
    reads_json: bool = True


_GENERATES = """
/completion /completions /v1/completions /chat/completions /v1/chat/completions /responses /v1/responses
/v1/messages /infill /embedding /embeddings /v1/embeddings /rerank /reranking /v1/rerank /v1/reranking
"""
_QUICK = """
/tokenize /detokenize /apply-template /v1/messages/count_tokens
/chat/completions/input_tokens /v1/chat/completions/input_tokens /responses/input_tokens
/v1/responses/input_tokens
"""
_UPLOADS = "/audio/transcriptions /v1/audio/transcriptions"
_READS = "/models /v1/models /props /lora-adapters"

ROUTES: dict[tuple[str, str], Route] = {
    **{("POST", path): Route(generates=True) for path in _GENERATES.split()},
    **{("POST", path): Route(generates=False) for path in _QUICK.split()},
    **{("POST", path): Route(generates=True, reads_json=False) for path in _UPLOADS.split()},
    **{("GET", path): Route(generates=False, reads_json=False) for path in _READS.split()},
}
PATHS = frozenset(path for _, path in ROUTES)
