"""Texts that Kubernetes, container registries and the Hugging Face hub restrict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from berth.spec.texts import quote

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Format:
    """A kind of text: `noun` finishes the sentence 'is no …', `example` shows a right one.

    `pattern` is a whole-string regular expression that Python, RE2 and JSON Schema read alike.
    """

    noun: str
    pattern: str
    longest: int
    example: str
    repair: Callable[[str], str] | None = None

    def fault(self, text: str) -> str | None:
        """What is wrong with a text, None where nothing is."""
        if len(text) > self.longest:
            return f"{quote(text)} has {len(text)} characters; at most {self.longest} are allowed"
        if self._matcher.fullmatch(text) is None:
            return f"{quote(text)} is no {self.noun}"
        return None

    @cached_property
    def _matcher(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def fix(self, text: str) -> str:
        """The right spelling where one can be guessed, else an example."""
        if self.repair is not None and len(text) <= 4 * self.longest:
            repaired = self.repair(text)[: self.longest]
            if repaired and repaired != text and self.fault(repaired) is None:
                return f"write `{repaired}`"
        return f"write for example `{self.example}`"


def _as_label(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _as_named_label(text: str) -> str:
    label = _as_label(text)
    return label if label[:1].isalpha() or not label else f"model-{label}"


def _as_subdomain(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_VALUE = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

WORKSPACE_NAME = Format(
    "name that a Service can have (lower-case letters, digits and `-`, a letter first, no `-` last)",
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$", 63, "llama-3-8b", _as_named_label,
)  # fmt: skip
DNS_LABEL = Format(
    "DNS label (lower-case letters, digits and `-`, which stands neither first nor last)",
    rf"^{_LABEL}$", 63, "my-team", _as_label,
)  # fmt: skip
DNS_SUBDOMAIN = Format(
    "name of a Kubernetes object (lower-case letters, digits, `-` and `.`)",
    rf"^{_SUBDOMAIN}$", 253, "hub-token", _as_subdomain,
)  # fmt: skip
LABEL_KEY = Format(
    "label key (`name` or `prefix/name`; the name has at most 63 letters, digits, `-`, `_` and `.`)",
    rf"^({_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$", 317, "example.com/team",
)  # fmt: skip
LABEL_VALUE = Format(
    "label value (at most 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last)",
    rf"^({_VALUE})?$", 63, "falcon-7b",
)  # fmt: skip
HOST = Format("host name", rf"^(\*\.)?{_SUBDOMAIN}$", 253, "models.example.com", _as_subdomain)
URL_PATH = Format("path of a URL, which starts with `/`", r"^/[-A-Za-z0-9._~!$&'()*+,;=:@%/]*$", 1024, "/v1")
IMAGE = Format(
    "container image (registry/name, then :tag or @sha256:digest)",
    r"^[A-Za-z0-9]([-A-Za-z0-9._]*(:[0-9]+)?/)?[-a-z0-9._/]*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?$", 512, "registry.example.com/models/falcon-7b:q4_k_m",
)  # fmt: skip
HF_REPOSITORY = Format(
    "Hugging Face repository (owner/name)",
    r"^[A-Za-z0-9][-A-Za-z0-9_.]*/[A-Za-z0-9][-A-Za-z0-9_.]*$", 200, "bartowski/Meta-Llama-3.1-8B-GGUF",
)  # fmt: skip
REVISION = Format(
    "git revision (a commit, tag or branch)", r"^[A-Za-z0-9][-A-Za-z0-9_./]*$", 200, "main",
)  # fmt: skip
GGUF_FILE = Format(
    "relative path of a `.gguf` file (no `..`, no leading `/`)",
    r"^([A-Za-z0-9_][-A-Za-z0-9_.+]*/)*[A-Za-z0-9_][-A-Za-z0-9_.+ ]*\.gguf$", 512, "model-Q4_K_M.gguf",
)  # fmt: skip
SHA256 = Format("SHA-256 digest (64 hexadecimal digits)", r"^[0-9a-f]{64}$", 64, "e3b0…b855", str.lower)
INSTANCE_TYPE = Format(
    "instance type (letters, digits, `-`, `_` and `.`)", rf"^{_VALUE}$", 63, "Standard_NC24ads_A100_v4",
)  # fmt: skip
KUBERNETES_VERSION = Format(
    "Kubernetes version (major and minor, in quotes)", r"^1\.[0-9]{2}$", 5, '"1.33"',
)  # fmt: skip

BY_PATTERN = {form.pattern: form for form in list(globals().values()) if isinstance(form, Format)}
