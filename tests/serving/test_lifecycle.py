"""Ends of all kinds: of the engine, of the front, and what their clients see."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.serving import fronts
from tests.serving.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine
    from tests.serving.fronts import Front

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

STALL_SECONDS = 12


@pytest.fixture
def front(engine: Engine, model_file: Path, tmp_path: Path) -> Iterator[Front]:
    arguments = ("--context-size", "512", "--stall-seconds", str(STALL_SECONDS), "--drain-seconds", "120")
    with fronts.running(engine, model_file, tmp_path, *arguments) as found:
        yield found


def _stream(front: Front, tokens: int) -> str:
    """Return all that a client reads of a stream."""
    data = {"prompt": "Once", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    request = urllib.request.Request(f"{front.url}/v1/completions", json.dumps(data).encode())
    with urllib.request.urlopen(request, timeout=200) as answer:
        return str(answer.read().decode())


def _streams(pool: ThreadPoolExecutor, front: Front, count: int, tokens: int) -> list[Future[str]]:
    """Start streams and return when as many as there are slots have begun to flow."""
    before = front.metric("berth_time_to_first_token_seconds_count")
    found = [pool.submit(_stream, front, tokens) for _ in range(count)]
    flowing = before + min(count, 4)
    wait_until(
        lambda: front.metric("berth_time_to_first_token_seconds_count") >= flowing, "streams flow", 120
    )
    return found


def test_sigterm_under_load_cuts_no_stream(front: Front) -> None:
    with ThreadPoolExecutor(8) as pool:
        streams = _streams(pool, front, count=8, tokens=24)
        front.terminate()
        wait_until(lambda: front.get("/readyz")[0] == 503, "the front is unready")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{front.url}/v1/completions", b'{"prompt": "x"}', timeout=20)
        with caught.value as refused:
            assert refused.code == 503
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.headers["Connection"] == "close"
        texts = [stream.result() for stream in streams]
    assert all(text.endswith("data: [DONE]\n\n") for text in texts)
    assert [text.count('"text":') for text in texts] == [25] * 8
    assert front.process.wait(60) == 0
    assert front.engine_pid is None


def test_sigterm_ends_the_comparison_of_a_large_file(engine: Engine, tmp_path: Path) -> None:
    """A minute for 40 GB, which a pod that is deleted has not to wait for."""
    large = tmp_path / "large.gguf"
    with large.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(2**38)
    port = str(free_port())
    command = ["--", "llama-server", "--parallel", "1", "--port", str(free_port()), "--alias", "large"]
    arguments = ["--model", str(large), "--sha256", "0" * 64, "--port", port, *command]
    with fronts.started([sys.executable, "-m", "serving", *arguments], engine.environment, tmp_path) as (
        process,
        log,
    ):
        front = fronts.Front(process, int(port), 0, log)
        wait_until(lambda: _is_comparing(front), "the file is being compared", 60)
        front.terminate()
        assert process.wait(20) == 0
        assert "never retrieved" not in front.log


def _is_comparing(front: Front) -> bool:
    with contextlib.suppress(OSError):
        return '"checking weights"' in front.get("/readyz")[1]
    return False


def test_streams_that_outlast_the_bound_are_told_so(engine: Engine, model_file: Path, tmp_path: Path) -> None:
    arguments = ("--context-size", "4096", "--drain-seconds", "1")
    with (
        fronts.running(engine, model_file, tmp_path, *arguments) as front,
        ThreadPoolExecutor(1) as pool,
    ):
        before = front.metric("berth_time_to_first_token_seconds_count")
        stream = pool.submit(_stream, front, 4000)
        wait_until(
            lambda: front.metric("berth_time_to_first_token_seconds_count") > before, "the stream flows", 60
        )
        front.terminate()
        text = stream.result()
        assert "shutting down" in text
        assert "[DONE]" not in text
        assert front.process.wait(60) == 0


def test_an_engine_that_is_killed_or_hangs_is_started_again(front: Front) -> None:
    with ThreadPoolExecutor(4) as pool:
        streams = _streams(pool, front, count=4, tokens=400)
        first = front.engine_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for text in [stream.result() for stream in streams]:
            assert text.startswith("data: ")
            assert '"error"' in text.rsplit("data: ", 1)[1]
            assert "[DONE]" not in text
        wait_until(lambda: front.metric("berth_engine_restarts") == 1, "the engine is started again")
        front.wait_ready()
        assert front.get("/healthz")[0] == 200
        assert front.metric("berth_slots_running") == 0

        streams = _streams(pool, front, count=2, tokens=400)
        second = front.engine_pid
        assert second not in (None, first)
        os.kill(second or 0, signal.SIGSTOP)
        for text in [stream.result() for stream in streams]:
            assert "it hangs" in text.rsplit("data: ", 1)[1]
        wait_until(lambda: front.metric("berth_engine_restarts") == 2, "the engine is started again")
        front.wait_ready()
    assert front.post("/chat", {"prompt": "Hi", "max_length": 4})[0] == 200
    assert "SIGKILL" in front.log


def test_three_ends_in_ten_minutes_end_the_front(engine: Engine, model_file: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "serving", "--model", str(model_file), "--port", str(free_port()),
        "--", "llama-server", "--alias", "smol", "--parallel", "1", "--port", str(free_port()),
        "--no-such-flag",
    ]  # fmt: skip
    with fronts.started(command, engine.environment, tmp_path) as (process, log):
        assert process.wait(60) == 70
        text = log.read_text()
    assert text.count("INFO serving.engine: engine: starting") == 3
    assert "given up: it ended with exit code 1" in text
    assert "no-such-flag" in text.split("given up")[1]


def test_an_engine_ends_with_its_front(front: Front) -> None:
    engine = front.engine_pid
    assert engine is not None
    front.process.kill()
    front.process.wait()

    def gone() -> bool:
        try:
            with open(f"/proc/{engine}/stat") as stat:  # noqa: PTH123  also a zombie is gone
                return stat.read().split(") ")[1][0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(gone, "the engine is gone", 20)


def test_a_file_that_is_not_what_was_promised_is_never_served(
    engine: Engine, model_file: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(model_file.read_bytes())
    with fronts.running(engine, model, tmp_path, "--sha256", "0" * 64, wait=False) as front:
        assert front.process.wait(60) == 65
        assert "not what was promised" in front.log


def test_keys_limits_names_and_the_queue_are_obeyed(engine: Engine, model_file: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "team-a").write_text("sk-one")
    (keys / "team-b").write_text("sk-two\nrequests-per-minute: 1\n")
    arguments = ("--api-keys", str(keys), "--strict-model", "--parallel", "1", "--queue", "1")
    with fronts.running(engine, model_file, tmp_path, *arguments) as front:
        hello = {"prompt": "Hi", "n_predict": 1}
        first, second = {"Authorization": "Bearer sk-one"}, {"x-api-key": "sk-two"}
        assert front.post("/completion", hello)[0] == 401
        assert front.post("/chat", {"prompt": "Hi"})[0] == 401
        assert front.get("/v1/models")[0] == 401
        assert front.get("/healthz")[0] == 200
        assert front.post("/completion", hello, **first)[0] == 200
        assert front.post("/completion", hello, **second)[0] == 200
        status, answer = front.post("/completion", hello, **second)
        assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
        status, answer = front.post("/completion", {**hello, "model": "gpt-4"}, **first)
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert front.post("/completion", {**hello, "model": "SMOL"}, **first)[0] == 200

        long = {"prompt": "Hi", "n_predict": 20, "ignore_eos": True}
        with ThreadPoolExecutor(4) as pool:
            asked = list(pool.map(lambda _: front.post("/completion", long, **first)[0], range(4)))
        assert sorted(asked) == [200, 200, 429, 429]

        (keys / "team-c").write_text("sk-three")
        (keys / "team-a").unlink()
        third = {"Authorization": "Bearer sk-three"}
        wait_until(lambda: front.post("/completion", hello, **third)[0] == 200, "the new key is known", 20)
        assert front.post("/completion", hello, **first)[0] == 401
        _, text = front.get("/metrics", front.metrics_port)
        assert 'key="team-c"' in text
        assert "sk-" not in front.log + text
