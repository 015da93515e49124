"""YAML that every reader reads back as it was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from generator import texts

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_READ_AS_OTHER = "yes No ~ null 1e3 0x1f 0o7 1_000 12:30:45 2026-01-01 0 -1 .5 1. +1 .inf NaN true ON = <<"
_MARKS = "- -- ? %a @a `a !a &a *a | > { [ ' \" \\ #a a:b a: :a --- ... 8Gi 100m é \x85 \u2028 \ufeff 🚢"
_SPACED = [
    "",
    "- a",
    "a: b",
    "a #b",
    " a",
    "a ",
    "a\n",
    "a\n\n",
    "\na",
    "a\n b\n",
    " a\nb",
    "a\tb\nc",
    "a \nb\n",
]
_TRICKY = st.sampled_from([*_READ_AS_OTHER.split(), *_MARKS.split(" "), *_SPACED])
_SCALARS = st.one_of(
    _TEXT, _TRICKY, st.integers(-(2**53), 2**53), st.booleans(), st.none(), st.floats(-1e9, 1e9)
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TRICKY | _TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_TRICKY | _TEXT, _DATA, max_size=5))
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    assert yaml.safe_load(texts.document({"top": data})) == {"top": data}


@given(st.lists(_TRICKY | _TEXT, max_size=5))
def test_text_stays_text_for_libyaml_too(data: list[str]) -> None:
    assert yaml.load(texts.document({"top": data}), Loader=yaml.CSafeLoader) == {"top": data}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param({"replicas": 3}, "replicas: 3\n", id="a number"),
        pytest.param({"port": "5000"}, 'port: "5000"\n', id="digits as text"),
        pytest.param({"image": "r.io/a/b:1@sha256:ab"}, "image: r.io/a/b:1@sha256:ab\n", id="an image"),
        pytest.param({"a": ["--port", "on"]}, 'a:\n  - --port\n  - "on"\n', id="flags and switches"),
        pytest.param({"a": [{"b": 1, "c": {}}]}, "a:\n  - b: 1\n    c: {}\n", id="mappings in a list"),
        pytest.param({"a": [["x"], []]}, "a:\n  - - x\n  - []\n", id="lists in a list"),
        pytest.param({"a": '{"b":1}'}, "a: '{\"b\":1}'\n", id="JSON in a text"),
        pytest.param({"a": "b\n\nc\n"}, "a: |\n  b\n\n  c\n", id="several lines"),
        pytest.param({"a": "b\nc"}, "a: |-\n  b\n  c\n", id="several lines without an end"),
    ],
)
def test_it_reads_well(data: Any, text: str) -> None:
    assert texts.document(data) == text


def test_a_stream_has_one_document_an_object() -> None:
    things = [{"kind": "A"}, {"kind": "B", "text": "---\n"}]
    assert list(yaml.safe_load_all(texts.stream(things))) == things


def test_long_lines_are_never_folded() -> None:
    text = "word " * 500 + "end"
    assert len(texts.document({"a": text}).splitlines()) == 1


@given(_TEXT)
def test_a_plan_in_a_config_map_is_read_back(text: str) -> None:
    content = json.dumps({"explanation": [text]}, indent=2, ensure_ascii=False) + "\n"
    assert yaml.safe_load(texts.document({"data": {"plan.json": content}}))["data"]["plan.json"] == content
