"""Problems name their field as Kubernetes does and speak in one line."""

import pytest

from berth.problems import Path, Problem, format_path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param((), "", id="the document itself"),
        pytest.param(("resource", "count"), "resource.count", id="plain keys"),
        pytest.param(("inference", "adapters", 0, "source"), "inference.adapters[0].source", id="an index"),
        pytest.param(("a", "example.com/pool"), "a[example.com/pool]", id="a key that is no word"),
        pytest.param(("a", ""), "a[]", id="an empty key"),
    ],
)
def test_a_path_is_written_as_kubernetes_does(path: Path, text: str) -> None:
    assert format_path(path) == text


def test_a_message_joins_reason_and_fix() -> None:
    assert Problem(("a",), 1, "it is wrong", "write 2").message == "it is wrong; write 2"
    assert Problem(("a",), 1, "it is wrong").message == "it is wrong"
