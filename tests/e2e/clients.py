"""Clients of a real API server that ask for admission again and again, and what came of it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.webhook.asking import workspace

if TYPE_CHECKING:
    from tests.e2e.webhooks import World

CLIENTS = 8
GOOD = workspace("good")
BAD = workspace("bad", inference={"preset": {"name": "falcon-7c"}})


@dataclass
class Asked:
    """What came of the admissions."""

    seconds: list[float] = field(default_factory=list)
    allowed: int = 0
    refused: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    """What the API server said, and when by the monotonic clock it had been asked."""
    wrong: list[str] = field(default_factory=list)

    def note(self, good: bool, status: int, text: str, seconds: float) -> None:
        self.seconds.append(seconds)
        if good and status == 201:
            self.allowed += 1
        elif not good and status == 422 and "falcon-7c" in text:
            self.refused += 1
        elif status in (201, 422):
            self.wrong.append(f"{status}: {text[:300]}")
        else:
            self.failed.append((time.monotonic() - seconds, f"{status}: {text[:300]}"))


class Clients:
    """Ask until told to stop, in a thread of their own; each keeps its connection."""

    def __init__(self, world: World, pause_s: float = 0.1) -> None:
        self._pause_s = pause_s
        config = json.loads(world.cluster.kubeconfig.read_text())
        place = config["clusters"][0]["cluster"]
        trusted = ssl.create_default_context(
            cadata=base64.b64decode(place["certificate-authority-data"]).decode()
        )
        trusted.check_hostname = False
        self._server, self._trusted = place["server"], trusted
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._path = f"/apis/kaito.sh/v1beta1/namespaces/{world.namespace}/workspaces?dryRun=All"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="clients")
        self.asked = Asked()

    def __enter__(self) -> Asked:
        self._thread.start()
        return self.asked

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(CLIENTS)))

    async def _one(self, number: int) -> None:
        turn = number
        async with httpx.AsyncClient(
            base_url=self._server, headers=self._headers, verify=self._trusted, timeout=30
        ) as client:
            while not self._ended.is_set():
                good = turn % 3 != 0
                turn += 1
                began = time.perf_counter()
                try:
                    answer = await client.post(self._path, json=GOOD if good else BAD)
                    status, text = answer.status_code, answer.text
                except httpx.HTTPError as error:
                    status, text = 0, repr(error)
                self.asked.note(good, status, text, time.perf_counter() - began)
                await asyncio.sleep(self._pause_s)
