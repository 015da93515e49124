"""Hostile files and noise cost little time and end in a problem, never in a traceback."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth import workspaces
from generator import specs

GOOD = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: falcon
resource:
  instanceType: Standard_NC12s_v3
inference:
  preset:
    name: falcon-7b
"""


def one(text: str | bytes) -> specs.Source:
    return specs.load_text(text.encode() if isinstance(text, str) else text, "a.yaml")


def only(source: specs.Source) -> tuple[str, int, int]:
    (found,) = source.problems
    return found.problem.reason, found.line, found.column


class TestHostileFiles:
    """Seconds are generous for slow machines; the work behind is bounded."""

    BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + level)}: &{chr(98 + level)} [{','.join(['*' + chr(97 + level)] * 10)}]\n"
        for level in range(12)
    )

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(GOOD + BOMB, id="a bomb of aliases"),
            pytest.param(GOOD + "\n".join(f"k{index}: 1" for index in range(600_000)), id="very many keys"),
            pytest.param(GOOD + "x: [" + "[]," * 300_000 + "]", id="very many lists"),
            pytest.param((GOOD + "---\n") * 20_000, id="very many documents"),
        ],
    )
    def test_too_many_values_are_a_problem_within_seconds(self, text: str) -> None:
        started = time.perf_counter()
        source = one(text)
        assert time.perf_counter() - started < 10
        assert "more than 100,000 values" in source.problems[-1].problem.reason

    def test_a_file_of_50_megabytes(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD + "x: '" + "y" * 50 * 1024**2 + "'\n")
        (tmp_path / "b.yaml").write_text("x: '" + "y" * 50 * 1024**2 + "'\n")
        started = time.perf_counter()
        (source,) = specs.load([str(tmp_path)])
        assert time.perf_counter() - started < 10
        assert only(source)[0] == "the file has 50.0 MiB; at most 8 MiB are read"

    @given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
    def test_no_bytes_make_it_raise(self, noise: bytes) -> None:
        for text in (noise, b"kaito.sh/" + noise, GOOD.encode() + noise, noise + b"\n---\n" + GOOD.encode()):
            source = one(text)
            for document in source.documents:
                assert document.position(("inference", "preset"))[0] >= 1
                workspaces.read(document.data)

    @given(
        st.integers(0, len(GOOD)),
        st.sampled_from([*"{}[]&*!|>'\"%@`#,:-?\t\n\x00\ufeff", "<<: ", "---\n", "...\n"]),
    )
    def test_no_slip_of_the_keyboard_makes_it_raise(self, place: int, slip: str) -> None:
        source = one(GOOD[:place] + slip + GOOD[place:])
        for found in source.problems:
            assert found.problem.reason.isprintable()
        for document in source.documents:
            workspaces.read(document.data)
