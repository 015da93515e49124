"""The front's application: FastAPI for what is ours, the pass-through below it for the engine's own API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from serving import ui
from serving.original import Original
from serving.proxy import Proxy
from serving.refusals import OPENAI, Refusal
from serving.routes import PATHS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.gate import Gate, Receive
    from serving.proxy import Message, Send
    from serving.settings import Settings
    from serving.upstream import Upstream

    Application = Callable[[Message, Receive, Send], Awaitable[None]]


def create(gate: Gate, upstream: Upstream, settings: Settings) -> Application:
    """Return the application.

    The engine's paths go past FastAPI's routing and middleware, which would cost each of them as much again.
    """
    proxy = Proxy(gate, upstream, settings.names, strict=settings.strict_model, images=settings.takes_images)
    ours = _ours(gate, upstream, settings)
    ours.mount("/", proxy)  # answers what nobody knows, in the shape of OpenAI's errors

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS:
            await proxy(scope, receive, send)
        else:
            await ours(scope, receive, send)

    return application


def _ours(gate: Gate, upstream: Upstream, settings: Settings) -> FastAPI:
    app = FastAPI(title="berth", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(Original(gate, upstream).router())

    async def readyz() -> Response:
        """Say whether new requests are wanted, and how far the model is."""
        state = "draining" if gate.draining else gate.engine.state
        progress = 1.0 if gate.engine.ready else gate.engine.output.progress
        detail = {
            "status": state,
            "progress": round(progress, 3),
            "model": settings.alias,
            "weights": gate.engine.weights,
        }
        if gate.engine.projector is not None:
            detail["projector"] = gate.engine.projector
        return JSONResponse(detail, 200 if gate.ready else 503)

    async def health() -> Response:
        """Say the same in llama-server's words."""
        if gate.ready:
            return JSONResponse({"status": "ok"})
        return _refused(Refusal(503, f"the model is not ready: {gate.engine.state}"))

    async def model(name: str, request: Request) -> Response:
        """Describe one model, as OpenAI's clients ask for it."""
        try:
            gate.keys.identify(request.scope["headers"])
        except Refusal as refusal:
            return _refused(refusal)
        if name.lower() not in settings.names:
            return _refused(Refusal(404, f"there is no model {name!r}", code="model_not_found"))
        found = {"id": name, "object": "model", "created": 0, "owned_by": "berth"}
        if settings.takes_images:
            found["capabilities"] = ["completion", "multimodal"]  # the words of the engine's own list
        return JSONResponse(found)

    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/v1/health", health, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", model, methods=["GET"])
    if settings.ui:
        app.include_router(ui.router(settings))
    return app


def _refused(refusal: Refusal) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers()}
    return Response(refusal.body(OPENAI), refusal.status, headers)
