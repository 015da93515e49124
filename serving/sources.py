"""The images that a pod's files come from, as its plan says: a digest in its name pins what one holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth.plans import ADAPTERS_FOLDER, WEIGHTS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping


def images(plan: Mapping[str, Any] | None) -> dict[Path, str]:
    """Return the image of each file that comes from one, by the file's path in the pod.

    The plan is read as plain data, as it may be of another version of berth. Files at other paths than the
    plan's are none of it, and nothing is said of them.
    """
    weights, server = _object(plan, "weights"), _object(plan, "server")
    found = {}
    image = weights.get("image")
    for file in (weights.get("file"), _object(server, "mmproj").get("file")):
        if isinstance(image, str) and isinstance(file, str):
            found[Path(WEIGHTS_FOLDER, file.lstrip("/"))] = image
    for adapter in server.get("adapters") or ():
        if isinstance(adapter, dict) and {"name", "image", "file"} <= adapter.keys():
            found[Path(ADAPTERS_FOLDER, adapter["name"], adapter["file"])] = adapter["image"]
    return found


def _object(data: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    value = (data or {}).get(name)
    return value if isinstance(value, dict) else {}
