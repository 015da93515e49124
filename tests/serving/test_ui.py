"""The page to try a model, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import fronts
from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine
    from tests.serving.fronts import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GIB = 2**30
PLAN = {
    "name": "workspace-smol",
    "server": {"model": "smollm2"},
    "memory": {
        "gpus": [
            {"weights": 4 * GIB, "kvCache": GIB, "compute": GIB // 2, "overhead": GIB // 2, "total": 6 * GIB,
             "capacity": 16 * GIB}
        ],
        "host": {},
    },
}  # fmt: skip
ASK = """
    document.getElementById("text").value = "Tell me the longest story that you know.";
    document.getElementById("form").requestSubmit();
"""
STOP = 'document.getElementById("form").requestSubmit();'
STATE = """JSON.stringify({
    title: document.title,
    answer: (document.querySelector(".assistant") || {}).textContent || "",
    error: (document.querySelector(".error") || {}).textContent || "",
    button: document.getElementById("send").textContent,
    speed: document.getElementById("speed").textContent,
    memory: document.getElementById("bars").textContent,
    pieces: [...document.querySelectorAll(".bar > div")].map(piece => piece.offsetWidth > 0),
})"""


class Browser:
    """One tab of Chromium, spoken to over its debugging pipe."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]  # fmt: skip
        # Chromium reads commands from descriptor 3 and writes answers to 4; the shell puts ours there.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", script, "chromium", program, *flags],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._commands, self._answers = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._rest, self._number, self._session = b"", 0, None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        return self._call("Runtime.evaluate", expression=script)["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self._answers.close()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _read(self) -> bytes:
        while b"\0" not in self._rest:
            piece = os.read(self._answers.fileno(), 65536)
            assert piece, "the browser ended"
            self._rest += piece
        found, _, self._rest = self._rest.partition(b"\0")
        return found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("NOT TESTED in a browser: there is no Chromium on PATH")
    found = Browser(program, tmp_path / "profile")
    yield found
    found.close()


@pytest.fixture
def front(engine: Engine, model_file: Path, tmp_path: Path) -> Iterator[Front]:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    arguments = ("--ui", "--plan", str(plan), "--context-size", "512", "--strict-model")
    with fronts.running(engine, model_file, tmp_path, *arguments) as found:
        yield found


def test_the_page_chats_and_shows_speed_and_memory(front: Front, browser: Browser) -> None:
    def state() -> dict[str, Any]:
        return dict(json.loads(browser.evaluate(STATE) or "{}"))

    def wait(what: str, condition: Any) -> dict[str, Any]:
        deadline = time.monotonic() + 100
        while not condition(found := state()):
            assert time.monotonic() < deadline, f"not seen: {what}; {found}"
            time.sleep(0.1)
        return found

    browser.open(f"{front.url}/ui")
    seen = wait(
        "the model's name and the plan", lambda found: found.get("title") == "smol" and found["memory"]
    )
    browser.evaluate("document.getElementById('memory').open = true")
    seen = wait("bars with a width", lambda found: found["pieces"] == [True] * 4)
    assert "6.00 GiB of 16.00 GiB" in seen["memory"]
    browser.evaluate(ASK)
    wait("an answer that grows", lambda found: "tokens/s" in found["speed"] and found["button"] == "Stop")
    browser.evaluate(STOP)
    seen = wait("the answer's end", lambda found: found["button"] == "Send" and found["answer"])
    assert seen["error"] == ""
    wait_until(lambda: front.metric("llamacpp:requests_processing") == 0, "the engine's slot is free")


def test_the_page_needs_nothing_from_elsewhere_and_a_plan_gives_the_model_its_names(front: Front) -> None:
    status, page = front.get("/ui")
    assert status == 200
    assert "://" not in page
    assert (
        front.post("/v1/completions", {"model": "workspace-smol", "prompt": "a", "max_tokens": 1})[0] == 200
    )
    assert front.post("/v1/completions", {"model": "smollm2", "prompt": "a", "max_tokens": 1})[0] == 200
    assert front.post("/v1/completions", {"model": "other", "prompt": "a", "max_tokens": 1})[0] == 404
