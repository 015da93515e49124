"""What is built and how: pins, variants and options as data, and the digest that names them.

Everything that decides the result stands here. The digest is the cache's key: a build is made again when the
recipe changed and never otherwise. Compilers are recorded beside it and do not belong to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SDIST = "llama_cpp_python-0.3.36.tar.gz"
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""As PyPI lists it: https://pypi.org/project/llama-cpp-python/0.3.36/#files"""
LLAMA_CPP_COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
"""The commit of llama.cpp that the sdist carries; read from it again at every build and compared."""

TOOLS = ("cmake==4.4.5", "ninja==1.13.2", "scikit-build-core==1.1.2")
"""Build tools from PyPI, in an environment of their own. The last only reads the sdist's metadata for pip."""

PROGRAMS = ("llama-server", "ggml-rpc-server", "llama-bench", "llama-quantize")
LIBRARIES = ("llama", "mtmd")
"""What the Python bindings load; the programs bring the rest."""

FORMAT = 2
"""Raised when `compiling` or `packing` change what they make of the same options."""

_COMMON = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    # programs and libraries find each other wherever the folder is put
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN;$ORIGIN/../lib",
    "CMAKE_EXE_LINKER_FLAGS": "-s",
    "CMAKE_SHARED_LINKER_FLAGS": "-s",
    "CMAKE_MODULE_LINKER_FLAGS": "-s",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    # would be downloaded while building
    "LLAMA_USE_PREBUILT_UI": "OFF",
    # the engine listens on loopback and fetches nothing itself
    "LLAMA_OPENSSL": "OFF",
    # no request may start a program
    "LLAMA_SUBPROCESS": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": LLAMA_CPP_COMMIT[:9],
    # where there is git, ggml would ask it, and call the unpacked sdist changed
    "GIT_EXE": "",
    "GGML_RPC": "ON",
    # one build for every CPU: the variant is picked when the program starts
    "GGML_NATIVE": "OFF",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
}
_CUDA = {
    "GGML_CUDA": "ON",
    # llama.cpp would link NCCL where it happens to find it; one process splits by layers and needs none
    "GGML_CUDA_NCCL": "OFF",
}


@dataclass(frozen=True)
class Variant:
    """One build: its options, and the CUDA release that it needs."""

    name: str
    cuda_major: int | None = None
    architectures: tuple[str, ...] = ()
    """GPU code to compile, in CMake's form: `80-real` is machine code, `90` also PTX for newer GPUs."""
    more: dict[str, str] = field(default_factory=dict)
    """Options of one's own, on top of the variant's."""

    @property
    def options(self) -> dict[str, str]:
        """CMake's options."""
        if self.cuda_major is None:
            return {**_COMMON, **self.more}
        return {
            **_COMMON,
            **_CUDA,
            "CMAKE_CUDA_ARCHITECTURES": ";".join(self.architectures),
            **self.more,
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that decides the result."""
        return {
            "format": FORMAT,
            "variant": self.name,
            "package": PACKAGE,
            "version": VERSION,
            "sdist": {"file": SDIST, "sha256": SDIST_SHA256},
            "llamaCppCommit": LLAMA_CPP_COMMIT,
            "tools": list(TOOLS),
            "programs": list(PROGRAMS),
            "options": self.options,
        }

    @property
    def digest(self) -> str:
        """The recipe's name: equal recipes have equal digests."""
        text = json.dumps(self.recipe, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


VARIANTS = {
    "cpu": Variant("cpu"),
    # CUDA 13 knows no GPU before compute capability 7.5, so V100s need CUDA 12
    "cuda12": Variant("cuda12", 12, ("70-real", "75-real", "80-real", "86-real", "89-real", "90")),
    "cuda13": Variant(
        "cuda13", 13, ("75-real", "80-real", "86-real", "89-real", "90-real", "100-real", "120")
    ),
}
