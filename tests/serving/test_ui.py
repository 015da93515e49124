"""The page to try a model, in a real browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import browsers
from tests.serving import fronts, tiny_projectors
from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browsers import Browser
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
STOP = 'document.getElementById("send").click(); !running || running.signal.aborted'
STATE = """JSON.stringify({
    title: document.title,
    answer: (document.querySelector(".assistant") || {}).textContent || "",
    error: (document.querySelector(".error") || {}).textContent || "",
    button: document.getElementById("send").textContent,
    speed: document.getElementById("speed").textContent,
    memory: document.getElementById("bars").textContent,
    pieces: [...document.querySelectorAll(".bar > div")].map(piece => piece.offsetWidth > 0),
})"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with browsers.open_one(tmp_path / "profile") as found:
        yield found


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
    assert browser.evaluate(STOP) is True
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


ATTACH = """(async () => {
    const image = document.createElement("canvas");
    image.width = 300;
    image.height = 200;
    const content = await new Promise(done => image.toBlob(done, "image/png"));
    const chosen = new DataTransfer();
    chosen.items.add(new File([content], "harbour.png", {type: "image/png"}));
    document.getElementById("images").files = chosen.files;
    document.getElementById("text").value = "What is it?";
    document.getElementById("form").requestSubmit();
})()"""
SHOWN = """JSON.stringify({
    hidden: document.getElementById("images").hidden,
    title: document.title,
    user: (document.querySelector(".user") || {}).textContent || "",
    error: (document.querySelector(".error") || {}).textContent || "",
    button: document.getElementById("send").textContent,
    kept: document.getElementById("images").files.length,
})"""


def test_an_image_can_be_attached_where_the_server_takes_them(
    engine: Engine, tmp_path: Path, browser: Browser
) -> None:
    text = tiny_projectors.write_text(tmp_path / "text.gguf")
    projector = tiny_projectors.write(tmp_path / "mmproj.gguf", "gemma3")
    arguments = ("--ui", "--mmproj", str(projector), "--context-size", "512", "--parallel", "1")
    with fronts.running(engine, text, tmp_path, *arguments) as front:
        seen: dict[str, Any] = {}

        def shows(name: str, value: Any) -> bool:
            seen.update(json.loads(browser.evaluate(SHOWN) or "{}"))
            return bool(seen.get(name) == value)

        browser.open(f"{front.url}/ui")
        wait_until(lambda: shows("title", "smol") and not seen["hidden"], "the field for images", 30)
        browser.evaluate(ATTACH)
        wait_until(lambda: shows("user", "[harbour.png] What is it?"), "the question", 30)
        wait_until(lambda: front.metric("berth_prompt_tokens_sum") > 64, "an answer about the image", 60)
        wait_until(lambda: shows("button", "Send"), "the answer's end", 60)
        assert (seen["error"], seen["kept"]) == ("", 0)


def test_without_a_projector_no_image_can_be_attached(front: Front, browser: Browser) -> None:
    assert json.loads(front.get("/ui/about")[1])["images"] is False
    browser.open(f"{front.url}/ui")
    wait_until(lambda: browser.evaluate("document.title") == "smol", "the page", 30)
    assert browser.evaluate("document.getElementById('images').hidden") is True
