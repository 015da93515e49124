"""LoRA adapters: KAITO's `inference.adapters`, and beside them what the plan has to know of each file.

KAITO's fields name an image and a strength. What one takes of a GPU stands in neither, so it is asked for in
`inference.llamacpp.adapters`, joined by the adapter's name.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from berth.spec import formats, pods
from berth.spec.formats import Format
from berth.spec.nodes import Field, Opaque, Sequence, Struct
from berth.spec.texts import code
from berth.spec.values import Integer, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.problems import Path
    from berth.spec.reports import Report

MOST = 10
"""KAITO's own bound."""
LARGEST_BYTES = 2**40
STRENGTH = Format("number from 0 to 1, as text", r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$", 8, '"0.5"')


def _refuse_urls(urls: Any, path: Path, report: Report) -> None:
    reason = "an adapter is not downloaded from URLs: nothing says what they will answer tomorrow"
    report.error(path, list(urls), reason, _IMAGE_FIX, "unsupported")


def _refuse_volume(volume: Any, path: Path, report: Report) -> None:
    report.error(path, volume, "an adapter does not come from a volume", _IMAGE_FIX, "unsupported")


_IMAGE_FIX = "use `image`; `berth package ADAPTER.gguf` makes one"
_SOURCE = Struct(
    {
        "name": Field(Text(formats.DNS_LABEL), "Name of the adapter, its own among them.", required=True),
        "image": Field(
            Text(formats.IMAGE), "Container image that holds the adapter as a GGUF file.", required=True
        ),
        "imagePullSecrets": Field(pods.SECRET_NAMES, "Secrets for pulling the image."),
        "urls": Field(
            Sequence(Text(longest=2048), most=64),
            "URLs of the data.",
            use="refused",
            note="An adapter comes from an image.",
            verdict=_refuse_urls,
        ),
        "volumeSource": Field(
            Opaque(),
            "Volume that holds the data.",
            use="refused",
            note="An adapter comes from an image.",
            verdict=_refuse_volume,
        ),
    }
)
ADAPTERS = Sequence(
    Struct(
        {
            "source": Field(_SOURCE, "Where the adapter comes from.", required=True),
            "strength": Field(
                Text(STRENGTH),
                "Weight of the adapter, a number from 0 to 1 as text. At 0 it is loaded, and a request can "
                "turn it on.",
                default="1.0",
            ),
        }
    ),
    most=MOST,
)
FILES = Sequence(
    Struct(
        {
            "name": Field(
                Text(formats.DNS_LABEL), "Name of an adapter in `inference.adapters`.", required=True
            ),
            "file": Field(Text(formats.GGUF_FILE), "Path of the GGUF file in its image.", required=True),
            "size": Field(
                Integer(1, LARGEST_BYTES),
                "Bytes of the file, which the plan counts on each GPU; a larger file is not served.",
                required=True,
            ),
            "sha256": Field(Text(formats.SHA256), "SHA-256 of the file, checked before it is served."),
        }
    ),
    most=MOST,
)
RULE = (
    "!has(self.adapters) || self.adapters.all(a, has(self.llamacpp) && has(self.llamacpp.adapters) && "
    "self.llamacpp.adapters.exists(f, f.name == a.source.name))",
    "each adapter needs its file and size in llamacpp.adapters",
)


def judge(inference: dict[str, Any], path: Path, report: Report) -> None:
    """Join both lists by name, and report what is there twice or in one of them alone."""
    adapters, ours = inference.get("adapters", ()), inference.get("llamacpp", {})
    if adapters and "template" in inference:
        reason = "`adapters` mean nothing with `inference.template`"
        fix = "remove them, or use `inference.preset`"
        report.error((*path, "adapters"), list(adapters), reason, fix, "conflict")
        return
    if any(place[: len(path)] == path and "adapters" in place[len(path) :] for place in report.broken):
        return
    wanted = {(*path, "adapters", index, "source", "name"): name for index, name in _names(adapters)}
    known = {
        (*path, "llamacpp", "adapters", index, "name"): one["name"]
        for index, one in enumerate(ours.get("adapters", ()))
    }
    for names in (wanted, known):
        counts = Counter(names.values())
        for place, name in list(names.items())[::-1]:
            if counts[name] > 1:
                counts[name] -= 1
                report.error(place, name, f"two adapters are called {code(name)}", "rename one", "duplicate")
    for place, name in wanted.items():
        if name not in known.values():
            reason = f"nothing says how large the adapter {code(name)} is, so no memory can be planned for it"
            fix = (
                f"add its file to `inference.llamacpp.adapters`: `- {{name: {name}, file: {name}.gguf, "
                "size: BYTES}`; `berth package` prints it"
            )
            report.error(place, name, reason, fix, "missing")
    for place, name in known.items():
        if name not in wanted.values():
            reason = f"`inference.adapters` holds no adapter {code(name)}"
            report.error(place, name, reason, "add it there, with its image, or remove this entry", "unknown")


def _names(adapters: Any) -> Iterator[tuple[int, str]]:
    for index, adapter in enumerate(adapters):
        yield index, adapter["source"]["name"]
