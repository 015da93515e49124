"""Whatever a review holds, it gets an answer, and soon.

BERTH_TEST_REVIEWS says how many are tried. Time is the processor's, of the thread that answers, since a test
shares its machine; it begins with the review's bytes and ends with the answer's. The collector is set as the
program sets it. A third of the reviews are first plans of any preset with any settings. What takes long is
measured again in a process of its own, where nothing is remembered: on a busy machine a processor's second is
not always the same, and the lesser of both counts.
"""

from __future__ import annotations

import copy
import gc
import itertools
import json
import os
import subprocess
import sys
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth import catalog
from tests import reports
from tests.webhook.asking import ROOT, body, context, deployment, pod, rendered, workspace
from tests.webhook.test_admission import applied
from webhook import admission, reviews, server

if TYPE_CHECKING:
    from collections.abc import Iterator

REVIEWS = int(os.environ.get("BERTH_TEST_REVIEWS", "1000"))
SLOWEST_SECONDS, DOUBTFUL_SECONDS = 0.25, 0.12

STARTS = [*rendered().values(), workspace(), pod(deployment())]
PRESETS = catalog.load().model_names
TYPES = tuple(catalog.load().instance_types)
CONTEXTS = ("auto", 256, 4096, 32768, 131072, 1048576)
BATCH = 50
"""Reviews of one seed: Hypothesis chooses the seeds, which costs more than a review does."""


@pytest.fixture(autouse=True)
def as_the_program_does() -> Iterator[None]:
    """Let the collector look as rarely as the program lets it."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    server.prepare(catalog.load())
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    sys.setswitchinterval(interval)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _junk(dice: Random, depth: int = 0) -> Any:
    kind = dice.randrange(9 if depth < 3 else 7)
    if kind == 7:
        return [_junk(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 8:
        return {_text(dice): _junk(dice, depth + 1) for _ in range(dice.randrange(4))}
    simple = (None, True, False, dice.randrange(-(2**40), 2**40), 9 * dice.random(), _text(dice), "")
    return simple[kind]


def _text(dice: Random) -> str:
    return "".join(
        chr(dice.choice((dice.randrange(128), dice.randrange(0xD800)))) for _ in range(dice.randrange(9))
    )


def _first_plan(dice: Random) -> dict[str, Any]:
    """A Workspace as somebody writes it before anything is rendered."""
    preset = dice.choice(PRESETS)
    kind = dice.choice(("f16", "bf16", "q8_0", "q4_0"))
    ours = {
        "contextSize": dice.choice((*CONTEXTS, dice.randrange(1, 2**20))),
        "parallel": dice.choice((1, 4, 16, 64)),
        "cacheTypeK": kind,
        "cacheTypeV": kind,
        "quantization": dice.choice(tuple(catalog.load().model(preset).quantizations)),
        "replicas": dice.randrange(1, 10),
    }
    given = {key: value for key, value in ours.items() if dice.random() < 0.5}
    found = workspace(inference={"preset": {"name": preset}, "llamacpp": given})
    if dice.random() < 0.5:
        del found["resource"]["instanceType"]
    else:
        found["resource"]["instanceType"] = dice.choice(TYPES)
    return found


def _spoil(document: Any, dice: Random) -> None:
    for _ in range(dice.randrange(1, 5)):
        places = _places(document)
        if not places:
            return
        *parents, last = dice.choice(places)
        holder = document
        for part in parents:
            holder = holder[part]
        if isinstance(holder, dict) and dice.random() < 0.5:
            del holder[last]
        else:
            holder[last] = _junk(dice)


def _review(dice: Random) -> bytes:
    planned = dice.randrange(3) == 0
    asked = json.loads(body(_first_plan(dice) if planned else dice.choice(STARTS)))
    if dice.random() < 0.5:
        asked["request"]["operation"] = "UPDATE"
        asked["request"]["oldObject"] = copy.deepcopy(dice.choice(STARTS))
    if not planned or dice.random() < 0.5:
        _spoil(asked["request"]["object"] if dice.random() < 0.5 else asked, dice)
    return json.dumps(asked).encode()


def _judge(content: bytes, tally: dict[str, int]) -> tuple[float, float]:
    """Return the processor's and the clock's time; no exception but BadReview, and a patch that only adds."""
    within = context()
    began, clock = time.thread_time(), time.perf_counter()
    try:
        request = reviews.parse(content)
    except reviews.BadReview:
        tally["no review"] += 1
        return time.thread_time() - began, time.perf_counter() - clock
    admission.plans(request, within)
    response = admission.validate(request, within)
    answered = response.to_bytes()
    filled = admission.mutate(request, within)
    times = time.thread_time() - began, time.perf_counter() - clock
    json.loads(answered)
    json.loads(filled.to_bytes())
    assert request.object is None or applied(request.object, filled.patch) is not None
    tally["allowed" if response.allowed else "denied"] += 1
    return times


def alone(content: bytes) -> float:
    """Return the processor's time of a review that a fresh process answers first."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.webhook.fresh"],
        input=content,
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    return float(done.stdout)


@pytest.mark.timeout(max(120, REVIEWS // 20))
def test_whatever_a_review_holds_it_gets_an_answer_soon() -> None:
    times: list[tuple[float, float]] = []
    again: list[tuple[float, float]] = []
    tally = {"allowed": 0, "denied": 0, "no review": 0}

    @settings(max_examples=-(-REVIEWS // BATCH), deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**64))
    def ask(seed: int) -> None:
        dice = Random(seed)
        for _ in range(BATCH):
            content = _review(dice)
            processor, clock = _judge(content, tally)
            if processor > DOUBTFUL_SECONDS:
                again.append((processor, alone(content)))
                processor = min(again[-1])
            times.append((processor, clock))

    ask()
    processor, clock = [one for one, _ in times], [one for _, one in times]
    reports.write(
        "reviews",
        {
            "reviews": len(times),
            **tally,
            "bugs": 0,
            "processor_ms": reports.milliseconds(processor),
            "clock_ms": reports.milliseconds(clock),
            "measured_again_ms": [[round(1000 * one, 1) for one in pair] for pair in again],
        },
    )
    assert len(times) >= REVIEWS * 0.9
    assert max(processor) < SLOWEST_SECONDS


VALUES: tuple[Any, ...] = (True, 1, "x", None, [], {"a": {"b": []}})
OF_EACH_KIND = {document["kind"]: document for document in STARTS}


@pytest.mark.parametrize("kind", OF_EACH_KIND)
def test_any_value_in_any_place_gets_an_answer(kind: str) -> None:
    document = OF_EACH_KIND[kind]
    create, tally = json.loads(body(document)), {"allowed": 0, "denied": 0, "no review": 0}
    update = json.loads(body(document, "UPDATE", document))
    for number, (place, value) in enumerate(itertools.product(_places(document), VALUES)):
        asked = copy.deepcopy(update if number % 2 else create)
        holder = asked["request"]["object"]
        for part in place[:-1]:
            holder = holder[part]
        holder[place[-1]] = value
        _judge(json.dumps(asked).encode(), tally)
    assert tally["allowed"] > 0
    assert tally["denied"] > 0
