"""What of the engine's output is logged."""

from __future__ import annotations

import pytest

from serving.output import Output

SECRET = "my diagnosis"


def _serving() -> Output:
    output = Output()
    output.serving = True
    return output


def test_everything_is_shown_while_the_model_loads() -> None:
    assert Output().read("load_tensors: CPU model buffer size = 5 MiB\n") is not None


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"anthropic string not as expected: {SECRET}", id="a parser that quotes its input"),
        pytest.param(f"2.00.000.000 I srv  operator(): {SECRET}", id="information"),
        pytest.param(
            f"2.00.000.000 E cmn  parse: unparsed output: {SECRET}", id="another part of the engine"
        ),
        pytest.param(f"{SECRET} in the second line of a prompt", id="a prompt's second line"),
        pytest.param(f'2.00.000.000 W srv  operator(): got exception: {{"m":"{SECRET}"}}', id="an exception"),
        pytest.param(f"2.00.000.000 E srv  send_error: task id = 3, error: {SECRET}", id="a task's error"),
    ],
)
def test_no_prompt_is_logged_while_requests_are_served(line: str) -> None:
    assert SECRET not in (_serving().read(line) or "")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("2.00.000.000 W srv  update: making room for prompt cache entry", id="a warning"),
        pytest.param("2.00.000.000 E slot   decode: id  3 | task 8 | failed to decode", id="an error"),
        pytest.param("/src/ggml.c:22: GGML_ASSERT(a == b) failed", id="an assertion"),
        pytest.param("CUDA error: an illegal memory access was encountered", id="CUDA's end"),
    ],
)
def test_what_an_operator_needs_is_logged_while_requests_are_served(line: str) -> None:
    output = _serving()
    assert output.read(line) == line
    assert list(output.last) == [line]


def test_that_there_was_an_exception_is_told_but_not_its_text() -> None:
    line = f"2.00.000.000 W srv  operator(): got exception: {SECRET}"
    assert _serving().read(line) == "2.00.000.000 W srv  operator(): got exception: (withheld)"


def test_progress_is_read_and_not_shown() -> None:
    output = Output()
    state = 'cmd_child_to_router:state:{"state":"loading","payload":{"current":"text_model","value":0.5}}'
    assert output.read(state) is None
    assert output.progress == 0.5
    assert output.read("cmd_child_to_router:state:{broken") is None
    assert output.progress == 0.5
