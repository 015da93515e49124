"""LoRA adapters from the spec to the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog, plans, sizing, workspaces
from berth.errors import NoFit
from tests.berth.test_workspace_rules import document

if TYPE_CHECKING:
    from berth.problems import Problem

DIGEST = "a" * 64
IMAGE = f"registry.example.com/sql-lora@sha256:{DIGEST}"
SIZE = 25_294_368


def adapter(name: str = "sql", **more: Any) -> dict[str, Any]:
    return {"source": {"name": name, "image": IMAGE, **more}}


def file(name: str = "sql", **more: Any) -> dict[str, Any]:
    return {"name": name, "file": f"{name}.gguf", "size": SIZE, **more}


def spec(adapters: list[Any], files: list[Any] | None = None, **llamacpp: Any) -> dict[str, Any]:
    ours = {**llamacpp, **({} if files is None else {"adapters": files})}
    return document(
        resource={"instanceType": "Standard_NC24ads_A100_v4"},
        inference={
            "preset": {"name": "llama-2-7b", "presetOptions": {"imagePullSecrets": ["pull"]}},
            "adapters": adapters,
            "llamacpp": ours,
        },
    )


def planned(*arguments: Any, **llamacpp: Any) -> plans.Plan:
    reading = workspaces.read(spec(*arguments, **llamacpp))
    assert not reading.problems
    assert reading.workspace is not None
    return sizing.plan(reading.workspace, catalog.load())


def server(plan: plans.Plan) -> plans.Server:
    assert plan.server is not None
    return plan.server


def gpus(plan: plans.Plan) -> tuple[plans.GpuMemory, ...]:
    assert plan.memory is not None
    return plan.memory.gpus


def problem(*arguments: Any) -> Problem:
    (found,) = workspaces.read(spec(*arguments)).problems
    return found


def test_an_adapter_is_part_of_what_the_pods_are_made_from() -> None:
    plan = planned([{**adapter(), "strength": "0.5"}], [file(sha256=DIGEST)])
    (found,) = server(plan).adapters or ()
    assert found == plans.Adapter(
        name="sql", image=IMAGE, pull_secrets=("pull",), file="sql.gguf", size=SIZE, sha256=DIGEST,
        strength=0.5, pinned=True,
    )  # fmt: skip
    argv = server(plan).argv("m.gguf")
    assert argv[argv.index("--lora-scaled") + 1] == "/adapters/sql/sql.gguf:0.5"
    assert plan.server_digest != planned([], []).server_digest


def test_adapters_keep_their_order_which_requests_name_them_by() -> None:
    plan = planned([adapter("b"), adapter("a")], [file("a"), file("b")])
    argv = server(plan).argv("m.gguf")
    assert argv[argv.index("--lora-scaled") + 1] == "/adapters/b/b.gguf:1,/adapters/a/a.gguf:1"


@pytest.mark.parametrize(
    ("strength", "written"),
    [
        pytest.param("0", "0", id="none, until a request turns it on"),
        pytest.param("0.0", "0", id="none, as a fraction"),
        pytest.param("0.000001", "1e-06", id="the least"),
        pytest.param("1.0", "1", id="all"),
    ],
)
def test_a_strength_reaches_the_engine_as_a_number(strength: str, written: str) -> None:
    argv = server(planned([{**adapter(), "strength": strength}], [file()])).argv("m.gguf")
    assert argv[argv.index("--lora-scaled") + 1] == f"/adapters/sql/sql.gguf:{written}"


def test_the_bytes_of_every_adapter_are_counted_on_each_gpu() -> None:
    without = gpus(planned([], []))
    with_two = gpus(planned([adapter("a"), adapter("b")], [file("a"), file("b", size=1000)]))
    assert [gpu.weights for gpu in with_two] == [gpu.weights + SIZE + 1000 for gpu in without]
    assert all(gpu.compute >= before.compute for gpu, before in zip(with_two, without, strict=True))


def test_a_plan_without_adapters_says_nothing_of_them() -> None:
    assert "adapters" not in server(planned([], [])).to_json()
    assert "--lora-scaled" not in server(planned([], [])).argv("m.gguf")


def test_adapters_that_leave_no_room_are_refused_with_what_is_short() -> None:
    reading = workspaces.read(spec([adapter()], [file(size=80 * 2**30)]))
    assert reading.workspace is not None
    with pytest.raises(NoFit) as caught:
        sizing.plan(reading.workspace, catalog.load())
    assert "weights with 1 adapter" in caught.value.problems[0].reason


def test_the_plan_explains_where_each_adapter_comes_from() -> None:
    plan = planned([adapter()], [file()])
    assert plan.explanation[-1] == (
        f"adapter sql: sql.gguf from {IMAGE}, 0.02 GiB on each GPU, strength 1, pinned by digest"
    )
    loose = planned([adapter(image="registry.example.com/sql-lora:1")], [file()])
    assert "Unpinned" in loose.explanation[-1]


@pytest.mark.parametrize(
    ("arguments", "path", "reason"),
    [
        pytest.param(
            ([adapter()],),
            "inference.adapters[0].source.name",
            "nothing says how large the adapter `sql` is",
            id="a file that nobody described",
        ),
        pytest.param(
            ([], [file()]),
            "inference.llamacpp.adapters[0].name",
            "`inference.adapters` holds no adapter `sql`",
            id="a file without its adapter",
        ),
        pytest.param(
            ([adapter(), adapter()], [file()]),
            "inference.adapters[1].source.name",
            "two adapters are called `sql`",
            id="one name twice",
        ),
        pytest.param(
            ([adapter()], [file(), file()]),
            "inference.llamacpp.adapters[1].name",
            "two adapters are called `sql`",
            id="one file twice",
        ),
        pytest.param(
            ([{**adapter(), "strength": "1.5"}], [file()]),
            "inference.adapters[0].strength",
            '"1.5" is no number from 0 to 1',
            id="a strength beyond KAITO's bounds",
        ),
        *(
            pytest.param(
                ([{**adapter(), "strength": strength}], [file()]),
                "inference.adapters[0].strength",
                f'"{strength}" is no number from 0 to 1',
                id=f"the strength {strength or 'of nothing'}",
            )
            for strength in ("-0.5", "nan", "1e-3", "0,5", ".5")
        ),
        pytest.param(
            ([{**adapter(), "strength": 0.5}], [file()]),
            "inference.adapters[0].strength",
            "expected a text, found 0.5",
            id="a strength without its quotes",
        ),
        pytest.param(
            ([adapter()], [file(size=0)]),
            "inference.llamacpp.adapters[0].size",
            "`size` is 0; it has to be at least 1",
            id="a file of no bytes",
        ),
        pytest.param(
            ([adapter()], [file(size="24Mi")]),
            "inference.llamacpp.adapters[0].size",
            'expected a whole number, found the text "24Mi"',
            id="a size with a unit",
        ),
        pytest.param(
            ([adapter()], [file(size=2**40 + 1)]),
            "inference.llamacpp.adapters[0].size",
            "it has to be at most 1099511627776",
            id="a file larger than any",
        ),
        pytest.param(
            ([adapter(f"a{number}") for number in range(11)], [file(f"a{number}") for number in range(10)]),
            "inference.adapters",
            "`adapters` has 11 entries; at most 10 are allowed",
            id="eleven adapters",
        ),
        pytest.param(
            ([adapter()], [file(file="/sql.gguf")]),
            "inference.llamacpp.adapters[0].file",
            "is no relative path",
            id="a path from the root",
        ),
        pytest.param(
            ([adapter(urls=["https://example.com/a.gguf"])], [file()]),
            "inference.adapters[0].source.urls",
            "an adapter is not downloaded from URLs",
            id="a URL",
        ),
        pytest.param(
            ([adapter(volumeSource={"emptyDir": {}})], [file()]),
            "inference.adapters[0].source.volumeSource",
            "an adapter does not come from a volume",
            id="a volume",
        ),
        pytest.param(
            ([adapter()], [file(file="../sql.gguf")]),
            "inference.llamacpp.adapters[0].file",
            "is no relative path",
            id="a file outside the image",
        ),
        pytest.param(
            ([adapter()], [file(file="a,b.gguf")]),
            "inference.llamacpp.adapters[0].file",
            "is no relative path",
            id="a comma, which parts the engine's list",
        ),
    ],
)
def test_what_is_wrong_is_told_alone_at_its_field(arguments: Any, path: str, reason: str) -> None:
    found = problem(*arguments)
    assert found.field == path
    assert reason in found.reason
    assert found.fix


@pytest.mark.parametrize(
    ("size", "fix"),
    [
        pytest.param("24Mi", "write `25165824`: units are not read here", id="mebibytes"),
        pytest.param("25.3M", "write `25300000`: units are not read here", id="a fraction of megabytes"),
        pytest.param("24 MB", "write a whole number such as `1`", id="no unit of Kubernetes"),
        pytest.param("2Ti", "write a whole number such as `1`", id="more than there can be"),
        pytest.param("1m", "write a whole number such as `1`", id="less than a byte"),
    ],
)
def test_a_size_with_a_unit_is_told_in_bytes(size: str, fix: str) -> None:
    assert problem([adapter()], [file(size=size)]).fix == fix


def test_a_template_has_no_adapters() -> None:
    data = document(
        inference={
            "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}},
            "adapters": [adapter()],
        }
    )
    (found,) = workspaces.read(data).problems
    assert found.reason == "`adapters` mean nothing with `inference.template`"
