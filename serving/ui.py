"""One page to try the model; it needs nothing but this server."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from serving.settings import Settings

_POLICY = (
    "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def router(settings: Settings) -> APIRouter:
    """Return the page and the little that it asks for; neither holds a secret or needs a key."""
    page = resources.files("serving").joinpath("ui.html").read_text(encoding="utf-8")
    policy = _POLICY.format(style=_hash(page, "style"), script=_hash(page, "script"))
    plan = settings.plan or {}
    about = {
        "model": settings.alias,
        "workspace": plan.get("name"),
        "slots": settings.slots,
        "task": settings.command.task,
        "memory": plan.get("memory"),
        "images": settings.takes_images,
    }
    found = APIRouter()

    async def ui() -> Response:
        """Show the page."""
        return HTMLResponse(
            page, headers={"content-security-policy": policy, "referrer-policy": "no-referrer"}
        )

    async def info() -> Response:
        """Tell the page what is served."""
        return JSONResponse(about)

    found.add_api_route("/ui", ui, methods=["GET"])
    found.add_api_route("/ui/about", info, methods=["GET"])
    return found


def _hash(page: str, tag: str) -> str:
    """Only the page's own code may run, whatever a model writes into it."""
    content = page.split(f"<{tag}>", 1)[1].split(f"</{tag}>", 1)[0]
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
