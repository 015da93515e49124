"""What of the engine's own output reaches our log: all of it while it loads, and never a prompt.

Once requests come in, the engine's log may quote them: errors of templates and parsers hold the text. So
from then on only warnings and errors of its own bookkeeping pass, without what follows an exception, and the
few lines with which a dying process says why. Load progress comes over the same pipe, in the words that the
pinned engine uses towards its own router.
"""

from __future__ import annotations

import json
import re
from collections import deque

_STATE = "cmd_child_to_router:state:"
_BOOKKEEPING = re.compile(r"\d+\.\d\d\.\d{3}\.\d{3} [WE] (slot|srv|que|res) +[^:]{1,40}: ")
_QUOTING = re.compile(
    r"(exception:|error:|unsupported|conv_id|completion id|image from|got another).*", re.DOTALL
)
_DYING = re.compile(r"(GGML_ASSERT|GGML_ABORT|CUDA error|ggml_abort|Out of memory|out of memory)")
_NOISE = (
    "need to evaluate at least 1 token",
    "n_past was set to",
    "server default port",
    "security: no API key",
)
_LONGEST = 2000


class Output:
    """The engine's lines, one after the other; `progress` is the loaded share of the weights, 0 to 1."""

    def __init__(self) -> None:
        self.serving = False
        self.progress = 0.0
        self.last: deque[str] = deque(maxlen=20)
        """What was let through last, for the reason of an end."""

    def read(self, line: str) -> str | None:
        """Return what to log of a line, or None."""
        line = line.rstrip()[:_LONGEST]
        if line.startswith(_STATE):
            self._state(line.removeprefix(_STATE))
            return None
        if not line or any(noise in line for noise in _NOISE):
            return None
        shown = line if not self.serving else _harmless(line)
        if shown is not None:
            self.last.append(shown)
        return shown

    def _state(self, text: str) -> None:
        try:
            value = json.loads(text)["payload"]["value"]
        except (ValueError, KeyError, TypeError):
            return
        if isinstance(value, int | float):
            self.progress = float(value)


def _harmless(line: str) -> str | None:
    if found := _BOOKKEEPING.match(line):
        prefix = line[: found.end()]
        return prefix + _QUOTING.sub(lambda quote: f"{quote[1]} (withheld)", line[found.end() :])
    if _DYING.search(line):
        return line
    return None
