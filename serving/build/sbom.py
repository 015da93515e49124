"""The bill of materials, in CycloneDX 1.6: the sdist, what it carries, and every file that came out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from serving.build import recipe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from serving.build.recipe import Variant

_GITHUB = "pkg:github/"


def document(source: Path, variant: Variant, files: Mapping[str, str]) -> str:
    """Return the document; no date and no random number stand in it, so that equal builds have equal ones."""
    commit = recipe.LLAMA_CPP_COMMIT
    engine = _component("llama.cpp", commit, f"{_GITHUB}ggml-org/llama.cpp@{commit}", "MIT")
    bindings = _component(
        recipe.PACKAGE, recipe.VERSION, f"pkg:pypi/{recipe.PACKAGE}@{recipe.VERSION}", "MIT"
    )
    bindings["hashes"] = [{"alg": "SHA-256", "content": recipe.SDIST_SHA256}]
    vendored = [_component(*entry) for entry in _vendored(source / "vendor" / "llama.cpp")]
    name = f"pkg:generic/berth-engine-{variant.name}@{recipe.VERSION}"
    product: dict[str, Any] = {
        "type": "application",
        "bom-ref": name,
        "name": f"berth-engine-{variant.name}",
        "version": recipe.VERSION,
        "properties": [{"name": "berth:recipe", "value": variant.digest}],
    }
    written = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": [
            bindings,
            engine,
            *vendored,
            *(
                {"type": "file", "name": path, "hashes": [{"alg": "SHA-256", "content": digest}]}
                for path, digest in sorted(files.items())
            ),
        ],
        "dependencies": [
            {"ref": name, "dependsOn": [bindings["bom-ref"], engine["bom-ref"]]},
            {"ref": bindings["bom-ref"], "dependsOn": [engine["bom-ref"]]},
            {"ref": engine["bom-ref"], "dependsOn": [entry["bom-ref"] for entry in vendored]},
        ],
    }
    return json.dumps(written, indent=2) + "\n"


def _component(name: str, version: str, purl: str, license_id: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": license_id}}],
    }


def _vendored(engine: Path) -> list[tuple[str, str, str, str]]:
    """What llama.cpp itself carries, with the versions that its own sources state."""
    vendor = engine / "vendor"
    found = []
    for name, owner, license_id, file, pattern in (
        ("cpp-httplib", "yhirose", "MIT", "cpp-httplib/httplib.h", r'CPPHTTPLIB_VERSION "([\d.]+)"'),
        ("json", "nlohmann", "MIT", "nlohmann/json.hpp", r"version (\d+\.\d+\.\d+)"),
        ("miniaudio", "mackron", "MIT-0", "miniaudio/miniaudio.h", r"miniaudio - v([\d.]+)"),
        ("stb", "nothings", "MIT", "stb/stb_image.h", r"stb_image - v([\d.]+)"),
    ):
        text = (vendor / file).read_text(errors="replace")[:100_000]
        version = re.search(pattern, text)
        stated = version.group(1) if version else "unknown"
        found.append((name, stated, f"{_GITHUB}{owner}/{name}@{stated}", license_id))
    return found
