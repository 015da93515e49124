"""The API of KAITO's first release, for clients written against it: `/chat` and `/generate`.

Both shapes of `/chat` come in on one path: `prompt` means falcon's, `input_data` llama-2's. A batch runs in
parallel over the engine's slots; each of its parts waits for a turn like any other request. The original's
`/shutdown`, open to everybody, is left out on purpose.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving import parameters
from serving.gate import ClientGone, parse, while_connected
from serving.keys import ANONYMOUS
from serving.refusals import CLIENT_CLOSED, ORIGINAL, Refusal, bug
from serving.upstream import EngineGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from serving.gate import Gate
    from serving.keys import Key
    from serving.queueing import Turn
    from serving.upstream import Upstream

log = logging.getLogger(__name__)


class Original:
    """Answers in the original's words."""

    def __init__(self, gate: Gate, upstream: Upstream) -> None:
        self._gate, self._upstream = gate, upstream

    def router(self) -> APIRouter:
        """Return the paths."""
        router = APIRouter()
        router.add_api_route("/", self.home, methods=["GET"])
        router.add_api_route("/healthz", self.healthz, methods=["GET"])
        router.add_api_route("/chat", self.chat, methods=["POST"])
        router.add_api_route("/generate", self.generate, methods=["POST"])
        return router

    async def home(self) -> Response:
        """Say that the server runs."""
        return JSONResponse("Server is running")

    async def healthz(self) -> Response:
        """Say whether there was a model.

        It is the liveness probe as well: an engine that is being started again is the front's own care, which
        gives up by itself, so a restart with a large model must not look like the front's death.
        """
        if not self._gate.engine.ever_ready:
            return JSONResponse({"detail": f"Model not initialized: {self._gate.engine.state}"}, 500)
        return JSONResponse({"status": "Healthy"})

    async def chat(self, request: Request) -> Response:
        """Answer in falcon's or in llama-2's shape."""
        return await self._handle(request, self._chat)

    async def generate(self, request: Request) -> Response:
        """Continue a batch of prompts, as llama-2's base presets did."""
        return await self._handle(request, self._continue_batch)

    async def _handle(
        self, request: Request, answer: Callable[[Key, dict[str, Any]], Awaitable[dict[str, Any]]]
    ) -> Response:
        arrived, status, key = monotonic(), CLIENT_CLOSED, ANONYMOUS
        tracer, scope = self._gate.tracer, request.scope
        trace = None if tracer is None else tracer.begin("POST", scope["path"], scope["headers"])
        with self._gate.visit() as visit:
            try:
                key = self._gate.admit(request.scope["headers"], generation=True)
                data = parse(await self._gate.body(request.receive, visit))
                found = await while_connected(request.receive, self._in_time(answer(key, data)))
                status = 200
                return JSONResponse(found, headers=self._last())
            except Refusal as refusal:
                status = refusal.status
                return self._refused(refusal)
            except ClientGone:
                self._gate.metrics.cut("client")
                return Response(status_code=CLIENT_CLOSED)
            except Exception as problem:
                failure = bug(problem)
                status = failure.status
                return self._refused(failure)
            finally:
                seconds = monotonic() - arrived
                self._gate.metrics.answered(key.name, status, seconds)
                if trace is not None:
                    trace.end(status, key.name)
                log.info("POST %s %d key=%s %.3f s", request.url.path, status, key.name, seconds)

    def _refused(self, refusal: Refusal) -> Response:
        headers = {name.decode(): value.decode() for name, value in refusal.headers()}
        return Response(refusal.body(ORIGINAL), refusal.status, {**headers, **self._last()})

    def _last(self) -> dict[str, str]:
        """While draining, a client's next request belongs to another pod and another connection."""
        return {"connection": "close"} if self._gate.draining else {}

    async def _in_time(self, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._gate.bounds.request_seconds):
                return await answer
        except TimeoutError:
            self._gate.metrics.cut("timeout")
            text = f"no complete answer within {self._gate.bounds.request_seconds:g} seconds"
            raise Refusal(504, text, code="timeout") from None

    async def _chat(self, key: Key, data: dict[str, Any]) -> dict[str, Any]:
        if "input_data" in data:
            return await self._dialogs(key, data)
        wanted = parameters.falcon(data)
        tokens = await self._ask("/tokenize", {"content": wanted.prompt, "add_special": True})
        room = max(1, wanted.max_length - len(tokens["tokens"]))
        request = {"prompt": wanted.prompt, "n_predict": room, **wanted.options}
        answers = await self._together(
            [self._generation(key, "/completion", request) for _ in range(wanted.sequences)]
        )
        return {"Result": "".join(wanted.prompt + answer["content"] for answer in answers)}

    async def _dialogs(self, key: Key, data: dict[str, Any]) -> dict[str, Any]:
        dialogs, options = parameters.dialogs(data), parameters.llama(data)
        answers = await self._together(
            [
                self._generation(key, "/v1/chat/completions", {"messages": dialog, **options})
                for dialog in dialogs
            ]
        )
        turns = [answer["choices"][0]["message"] for answer in answers]
        return {
            "results": [
                [
                    {"role": message["role"].capitalize(), "content": message["content"] or ""}
                    for message in dialog
                ]
                for dialog in ([*dialog, turn] for dialog, turn in zip(dialogs, turns, strict=True))
            ]
        }

    async def _continue_batch(self, key: Key, data: dict[str, Any]) -> dict[str, Any]:
        prompts, options = parameters.prompts(data), parameters.llama(data)
        answers = await self._together(
            [self._generation(key, "/completion", {"prompt": prompt, **options}) for prompt in prompts]
        )
        return {
            "results": [
                {"prompt": prompt, "response": answer["content"]}
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
        }

    async def _together(self, work: list[Any]) -> list[dict[str, Any]]:
        """Run a batch; its first failure ends the rest and is the answer."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part) for part in work]
        except* Refusal as problems:
            raise problems.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _generation(self, key: Key, target: str, data: dict[str, Any]) -> dict[str, Any]:
        arrived = monotonic()
        turn = await self._gate.queue.enter(key.name)
        self._gate.metrics.queued(key.name, monotonic() - arrived)
        answer = await self._ask(target, data, turn)
        timings = answer.get("timings", {})
        completion = int(timings.get("predicted_n", 0))
        self._gate.spend(key, int(timings.get("prompt_n", 0)) + int(timings.get("cache_n", 0)), completion)
        if completion:
            spent = timings["predicted_ms"] / 1000
            self._gate.metrics.first_token(key.name, max(0.0, monotonic() - arrived - spent))
            self._gate.metrics.between(key.name)(spent / completion)
        return answer

    async def _ask(self, target: str, data: dict[str, Any], turn: Turn | None = None) -> dict[str, Any]:
        try:
            status, answer = await self._upstream.json(
                "POST",
                target,
                data,
                generation=turn is not None,
                when_closed=None if turn is None else turn.end,
            )
        except EngineGone as problem:
            raise Refusal(502, str(problem), retry_after=5.0) from None
        if status == 200 and isinstance(answer, dict):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        raise Refusal(400 if 400 <= status < 500 else 502, str(message or "the engine gave no answer"))
