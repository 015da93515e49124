"""Draws docs/images/sizing.svg: one model at four settings on one GPU, from the figures of `berth size`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import catalog
from berth.quantities import GIB
from generator.sizes import Asked, size

if TYPE_CHECKING:
    from berth.plans import GpuMemory

MODEL, GPU, INSTANCE_TYPE = "qwen3-8b", "NVIDIA T4", "Standard_NC4as_T4_v3"
SETTINGS = (("f16", 8192), ("f16", 16384), ("f16", 32768), ("q4_0", 32768))
PARTS = (("weights", "#0b5cad"), ("kv_cache", "#4f9be0"), ("compute", "#f0a53a"), ("overhead", "#9aa7b4"))
NAMES = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "compute": "compute buffers",
    "overhead": "CUDA (estimated)",
}
LEFT, WIDTH, SCALE_GIB = 190, 700, 28.0


def text() -> str:
    """Return the picture."""
    capacity = catalog.load().instance_types[INSTANCE_TYPE].gpu_memory
    rows = [_row(place, *setting, capacity) for place, setting in enumerate(SETTINGS)]
    edge = _place(capacity)
    legend = "".join(
        f'<rect x="{24 + 180 * place}" y="20" width="14" height="14" rx="3" fill="{colour}"/>'
        f'<text x="{44 + 180 * place}" y="32">{NAMES[part]}</text>'
        for place, (part, colour) in enumerate(PARTS)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 290" font-family="system-ui, sans-serif" '
        f'font-size="14.5" role="img" aria-label="{MODEL} with 4 slots on one {GPU}: weights stay the same, '
        'the KV cache grows with the context until the GPU is full">\n'
        '<rect width="920" height="290" rx="14" fill="#f6f8fa"/>\n'
        f'<g fill="#1d2733">{legend}</g>\n{"".join(rows)}'
        f'<path d="M{edge:.1f} 52V270" stroke="#c2352b" stroke-width="2" stroke-dasharray="5 4"/>'
        f'<text x="{edge + 8:.1f}" y="68" fill="#c2352b">'
        f"{capacity / GIB:.1f} GiB: what an {GPU} has</text>\n"
        "</svg>\n"
    )


def _row(place: int, cache: str, context: int, capacity: int) -> str:
    asked = Asked(
        MODEL, None, context * 4, 4, cache, cache, None, None, True, False, 1, GPU
    )  # fmt: skip
    figures: GpuMemory = size(asked).memory.gpus[0]
    top, start, found = 82 + 50 * place, 0.0, []
    for part, colour in PARTS:
        amount = getattr(figures, part)
        found.append(
            f'<rect x="{_place(start):.1f}" y="{top}" width="{_place(amount) - LEFT:.1f}" height="30" '
            f'fill="{colour}"/>'
        )
        start += amount
    fits = figures.total <= capacity
    ink = "#1d2733" if fits else "#c2352b"
    said = f"{figures.total / GIB:.1f} GiB: {'fits' if fits else 'refused'}"
    return (
        f'<text x="24" y="{top + 13}" fill="#1d2733" font-weight="600">4 × {context} tokens</text>'
        f'<text x="24" y="{top + 31}" fill="#5b6b7d" font-size="12.5">cache {cache}</text>'
        f"{''.join(found)}"
        f'<text x="{_place(max(start, capacity)) + 8:.1f}" y="{top + 20}" fill="{ink}">{said}</text>\n'
    )


def _place(amount: float) -> float:
    return LEFT + WIDTH * amount / GIB / SCALE_GIB
