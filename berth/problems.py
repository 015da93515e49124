"""What is wrong with a spec, as values: field path, offending value, reason and fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Path = tuple[str | int, ...]
"""Keys and indices from the document's root to a field."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one field.

    `rule` is a stable identifier such as `unknown-field`; `value` is the offending value as it stands in
    the document, None where the field is absent. `reason` says what is wrong, `fix` what to write instead;
    both are plain sentences without a final full stop that make sense without the other.
    """

    path: Path
    value: Any
    reason: str
    fix: str = ""
    severity: Severity = "error"
    rule: str = ""
    needed_bytes: int | None = None
    """Of memory on one GPU, where a spec asks for more of it than there is; for logs and audits."""
    available_bytes: int | None = None

    @property
    def field(self) -> str:
        """The path as Kubernetes writes it: `inference.adapters[0].name`."""
        return format_path(self.path)

    @property
    def message(self) -> str:
        """Reason and fix in one line, the same for the CLI and the webhook."""
        return f"{self.reason}; {self.fix}" if self.fix else self.reason


def format_path(path: Path) -> str:
    """Write a path as Kubernetes does; a key that is no plain word stands in brackets.

    >>> format_path(("resource", "labelSelector", "matchLabels", "example.com/pool"))
    'resource.labelSelector.matchLabels[example.com/pool]'
    >>> format_path(("inference", "adapters", 0, "source"))
    'inference.adapters[0].source'
    """
    text = ""
    for part in path:
        if isinstance(part, int) or not part.replace("_", "a").replace("-", "a").isalnum():
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text
