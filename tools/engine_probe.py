"""Asks the pinned engine what it would allocate: one model, many settings.

Runs as a process of its own, because the engine aborts the process where it dislikes a model. It reads one
JSON document from stdin, `{"library", "path", "servers", "allocate", "settings": […]}`, and writes one JSON
line per setting. Unless told to allocate the engine simulates (`no_alloc`), as its own `--fit` does.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

KV_TYPES = {
    "f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "iq4_nl": 20,
}  # fmt: skip


class Engine:
    """The libraries of the engine's wheel, by ctypes."""

    def __init__(self, site_packages: str, servers: list[str]) -> None:
        # the package itself would want numpy and more; its bare bindings want nothing
        package = types.ModuleType("llama_cpp")
        package.__path__ = [f"{site_packages}/llama_cpp"]
        sys.modules["llama_cpp"] = package
        importlib.import_module("llama_cpp._ggml")
        self.api: Any = importlib.import_module("llama_cpp.llama_cpp")
        libraries = f"{site_packages}/llama_cpp/lib"
        # a wheel holds copies instead of links; these names are the ones that libllama itself loads
        self.llama = ctypes.CDLL(f"{libraries}/libllama.so")
        self.base = ctypes.CDLL(f"{libraries}/libggml-base.so.0")
        versioned = Path(f"{libraries}/libggml-rpc.so.0")
        self.rpc = ctypes.CDLL(str(versioned if versioned.exists() else versioned.with_suffix("")))
        self.registry = ctypes.CDLL(f"{libraries}/libggml.so.0")
        self.base.ggml_backend_buft_is_host.restype = ctypes.c_bool
        self.base.ggml_backend_buft_is_host.argtypes = [ctypes.c_void_p]
        self.base.ggml_backend_buft_get_device.restype = ctypes.c_void_p
        self.base.ggml_backend_buft_get_device.argtypes = [ctypes.c_void_p]
        self.base.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
        self.base.ggml_backend_reg_dev_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.rpc.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
        self.rpc.ggml_backend_rpc_add_server.argtypes = [ctypes.c_char_p]
        self.registry.ggml_backend_register.argtypes = [ctypes.c_void_p]
        self.api.llama_backend_init()
        self._quiet = self.api.llama_log_callback(_log)
        self.api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.devices = [self._device(server) for server in servers]

    def _device(self, server: str) -> int:
        registered = self.rpc.ggml_backend_rpc_add_server(server.encode())
        if not registered:
            raise SystemExit(f"no RPC server at {server}")
        self.registry.ggml_backend_register(registered)
        return int(self.base.ggml_backend_reg_dev_get(registered, 0))

    def load(self, path: str, allocate: bool) -> Any:
        """The model, its weights only pretended unless they are to be allocated."""
        parameters = self.api.llama_model_default_params()
        parameters.no_alloc = not allocate
        parameters.load_mode = 0
        parameters.load_mtp = False
        parameters.n_gpu_layers = 999 if self.devices else 0
        listed = (ctypes.c_void_p * (len(self.devices) + 1))(*self.devices, None)
        split = (ctypes.c_float * 128)(*([1.0] * len(self.devices)))
        parameters.devices = ctypes.cast(listed, ctypes.c_void_p)
        parameters.tensor_split = split
        self._kept = (listed, split)
        return self.api.llama_model_load_from_file(path.encode(), parameters)

    def measure(self, model: Any, setting: dict[str, Any]) -> dict[str, Any]:
        """What a context with these settings takes, per device and on the host."""
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx = setting["n_ctx"]
        parameters.n_seq_max = setting["n_parallel"]
        parameters.n_ubatch = setting["n_ubatch"]
        parameters.n_batch = setting.get("n_batch", 2048)
        parameters.n_outputs_max = setting["n_outputs_max"]
        parameters.n_outputs_max_per_seq = setting.get("n_outputs_max_per_seq", 0)
        parameters.flash_attn_type = int(setting["flash_attn"])
        parameters.swa_full = bool(setting.get("swa_full"))
        parameters.kv_unified = bool(setting["kv_unified"])
        key, _, value = setting["kv_type"].partition("/")
        parameters.type_k, parameters.type_v = KV_TYPES[key], KV_TYPES[value or key]
        parameters.embeddings = bool(setting.get("embeddings"))
        parameters.n_threads = parameters.n_threads_batch = 1
        context = self.api.llama_init_from_model(model, parameters)
        if not context:
            return {"error": "the engine does not start"}
        if setting.get("adapters"):
            self._adapt(model, context, setting["adapters"])
        found = {
            "n_ctx_actual": self.api.llama_n_ctx(context),
            "n_ctx_seq": self.api.llama_n_ctx_seq(context),
            **self._sorted(_breakdown(self.llama, context)),
        }
        self.api.llama_free(context)
        return found

    def _adapt(self, model: Any, context: Any, files: list[str]) -> None:
        """Apply LoRA adapters and compute one token, since the engine reserves anew only then."""
        loaded = [self.api.llama_adapter_lora_init(model, file.encode()) for file in files]
        if not all(loaded):
            raise SystemExit("the engine does not load the adapter")
        pointers = [ctypes.cast(adapter, ctypes.c_void_p) for adapter in loaded]
        adapters = (ctypes.c_void_p * len(loaded))(*pointers)
        scales = (ctypes.c_float * len(loaded))(*([1.0] * len(loaded)))
        self.llama.llama_set_adapters_lora.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
                                                       ctypes.c_void_p]  # fmt: skip
        self.llama.llama_set_adapters_lora(context, adapters, len(loaded), scales)
        tokens = (ctypes.c_int32 * 1)(0)
        self.api.llama_decode(context, self.api.llama_batch_get_one(tokens, 1))

    def _sorted(self, breakdown: dict[int, tuple[int, int, int]]) -> dict[str, Any]:
        host = [0, 0, 0]
        devices = [[0, 0, 0] for _ in self.devices]
        for buffer_type, sizes in breakdown.items():
            target = host
            if not self.base.ggml_backend_buft_is_host(buffer_type):
                device = self.base.ggml_backend_buft_get_device(buffer_type)
                if device in self.devices:
                    target = devices[self.devices.index(device)]
            for kind in range(3):
                target[kind] += sizes[kind]
        return {"host": host, "devices": devices}


def _breakdown(library: ctypes.CDLL, context: Any) -> dict[int, tuple[int, int, int]]:
    """The engine's own account of a context: buffer type -> bytes of weights, cache and compute.

    It is a C++ map, returned by value; its nodes are walked as libstdc++ lays them out.
    """

    class Map(ctypes.Structure):
        _fields_ = [("words", ctypes.c_uint64 * 6)]

    ask = library._Z26llama_get_memory_breakdownPK13llama_context
    # a C++ object with a destructor is returned through a hidden pointer, as any structure of this size is
    ask.restype = Map
    ask.argtypes = [ctypes.c_void_p]
    found = ask(context)
    result: dict[int, tuple[int, int, int]] = {}
    pending = [int(found.words[2])]
    while pending:
        node = pending.pop()
        if not node:
            continue
        words = (ctypes.c_uint64 * 8).from_address(node)
        pending += [int(words[2]), int(words[3])]
        result[int(words[4])] = (int(words[5]), int(words[6]), int(words[7]))
    return result


def _log(level: int, text: bytes, _: Any) -> None:
    if level >= 4:
        sys.stderr.write(text.decode(errors="replace"))


def main() -> None:
    """Measure what stdin asks for."""
    task = json.load(sys.stdin)
    engine = Engine(task["library"], task["servers"])
    model = engine.load(task["path"], bool(task.get("allocate")))
    if not model:
        print(json.dumps({"fatal": "the engine does not load the model"}), flush=True)
        return
    for setting in task["settings"]:
        print(json.dumps(engine.measure(model, setting)), flush=True)


if __name__ == "__main__":
    main()
