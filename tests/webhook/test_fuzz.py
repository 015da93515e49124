"""Whatever a review holds, it gets an answer, and soon.

BERTH_TEST_REVIEWS says how many are tried. Time is the processor's, of the thread that answers, since a test
shares its machine; it begins with the review's bytes and ends with the answer's. The collector is set as the
program sets it. A third of the reviews are first plans of any preset with any settings.
"""

from __future__ import annotations

import copy
import gc
import itertools
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth import catalog
from tests import reports
from tests.webhook.asking import body, context, deployment, pod, rendered
from tests.webhook.test_admission import applied, workspace
from webhook import admission, reviews, server

if TYPE_CHECKING:
    from collections.abc import Iterator

REVIEWS = int(os.environ.get("BERTH_TEST_REVIEWS", "1000"))
SLOWEST_SECONDS = 0.25

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
STARTS = [*rendered().values(), workspace(), pod(deployment())]
PRESETS = catalog.load().model_names
TYPES = tuple(catalog.load().instance_types)
CONTEXTS = st.sampled_from(["auto", 256, 4096, 32768, 131072, 1048576]) | st.integers(1, 2**20)


@pytest.fixture(autouse=True)
def as_the_program_does() -> Iterator[None]:
    """Let the collector look as rarely as the program lets it."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    for model in catalog.load().models:
        model.layout(model.default_quantization)
    server.spare_the_collector()
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


def _first_plan(draw: Any) -> dict[str, Any]:
    """A Workspace as somebody writes it before anything is rendered."""
    kind = draw(st.sampled_from(["f16", "bf16", "q8_0", "q4_0"]))
    quantizations = tuple(catalog.load().model(preset := draw(st.sampled_from(PRESETS))).quantizations)
    ours = {
        "contextSize": draw(CONTEXTS),
        "parallel": draw(st.sampled_from([1, 4, 16, 64])),
        "cacheTypeK": kind,
        "cacheTypeV": kind,
        "quantization": draw(st.sampled_from(quantizations)),
        "replicas": draw(st.integers(1, 9)),
    }
    given = {key: value for key, value in ours.items() if draw(st.booleans())}
    found = workspace(inference={"preset": {"name": preset}, "llamacpp": given})
    if draw(st.booleans()):
        del found["resource"]["instanceType"]
    else:
        found["resource"]["instanceType"] = draw(st.sampled_from(TYPES))
    return found


def _spoil(document: Any, draw: Any) -> None:
    for _ in range(draw(st.integers(1, 4))):
        places = _places(document)
        if not places:
            return
        *parents, last = draw(st.sampled_from(places))
        holder = document
        for part in parents:
            holder = holder[part]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[last]
        else:
            holder[last] = draw(JUNK)


def _judge(content: bytes, tally: dict[str, int]) -> tuple[float, float]:
    """Return the processor's and the clock's time; no exception but BadReview, and a patch that only adds."""
    within = context()
    began, clock = time.thread_time(), time.perf_counter()
    try:
        request = reviews.parse(content)
    except reviews.BadReview:
        tally["no review"] += 1
        return time.thread_time() - began, time.perf_counter() - clock
    response = admission.validate(request, within)
    answered = response.to_bytes()
    filled = admission.mutate(request, within)
    times = time.thread_time() - began, time.perf_counter() - clock
    json.loads(answered)
    json.loads(filled.to_bytes())
    assert request.object is None or applied(request.object, filled.patch) is not None
    tally["allowed" if response.allowed else "denied"] += 1
    return times


@pytest.mark.timeout(max(120, REVIEWS // 20))
def test_whatever_a_review_holds_it_gets_an_answer_soon() -> None:
    times: list[tuple[float, float]] = []
    tally = {"allowed": 0, "denied": 0, "no review": 0}

    @settings(max_examples=REVIEWS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        planned = data.draw(st.integers(0, 2)) == 0
        document = _first_plan(data.draw) if planned else copy.deepcopy(data.draw(st.sampled_from(STARTS)))
        asked = json.loads(body(document))
        if data.draw(st.booleans()):
            asked["request"]["operation"] = "UPDATE"
            asked["request"]["oldObject"] = copy.deepcopy(data.draw(st.sampled_from(STARTS)))
        if not (planned and data.draw(st.booleans())):
            _spoil(asked["request"]["object"] if data.draw(st.booleans()) else asked, data.draw)
        times.append(_judge(json.dumps(asked).encode(), tally))

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
