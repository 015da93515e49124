"""`extraArgs` may say what the plan does not: never a flag that the engine lacks or that changes the plan."""

import pytest

from berth import flags


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="none"),
        pytest.param(["--temp", "0.2"], id="a flag with its value"),
        pytest.param(["--temp", "-1"], id="a negative value"),
        pytest.param(["--no-warmup", "--top-k", "40"], id="a flag without a value, then one with"),
        pytest.param(["--chat-template", "-c"], id="a value that looks like a flag"),
        pytest.param(["--top_k", "40"], id="underscores, which the engine reads as dashes"),
    ],
)
def test_free_flags_pass(arguments: list[str]) -> None:
    assert list(flags.faults(arguments)) == []


@pytest.mark.parametrize(
    ("arguments", "positions", "rule"),
    [
        pytest.param(["-c", "4096"], [0], "owned-flag", id="an owned flag and its value are one fault"),
        pytest.param(["--ctx-size=1"], [0], "owned-flag", id="an owned flag with an equals sign"),
        pytest.param(["--ctx_size", "1"], [0], "owned-flag", id="an owned flag with underscores"),
        pytest.param(
            ["--temp", "1", "-np", "2", "-ngl", "0"], [2, 4], "owned-flag", id="several owned flags"
        ),
        pytest.param(["--tempp", "1"], [0], "unknown-flag", id="a misspelt flag and its value are one fault"),
        pytest.param(["1"], [0], "unknown-flag", id="a value without a flag"),
        pytest.param(["--no-warmup", "1"], [1], "unknown-flag", id="a value for a flag that takes none"),
        pytest.param(["--temp=1"], [0], "flag-value", id="the engine reads no equals sign"),
        pytest.param(["--temp 1"], [0], "flag-value", id="a flag and its value in one entry"),
        pytest.param(["--temp"], [0], "flag-value", id="a flag without its value"),
        pytest.param([""], [0], "unknown-flag", id="an empty argument"),
    ],
)
def test_faults_are_found_where_they_stand(arguments: list[str], positions: list[int], rule: str) -> None:
    found = list(flags.faults(arguments))
    assert [fault.position for fault in found] == positions
    assert {fault.rule for fault in found} == {rule}
    assert all(fault.reason and fault.fix for fault in found)


@pytest.mark.parametrize(
    ("flag", "fix"),
    [
        ("-c", "use `inference.llamacpp.contextSize`"),
        ("--parallel", "use `inference.llamacpp.parallel`"),
        ("-ctk", "use `inference.llamacpp.cacheTypeK`"),
        ("--hf-repo", "use `inference.llamacpp.weights`"),
        ("--lora", "use `inference.adapters`, which the plan counts"),
        ("--mmproj", "use `inference.llamacpp.mmproj`"),
        ("--image-max-tokens", "use `inference.llamacpp.mmproj.maxImageTokens`"),
        ("--video-fps", "remove it: films and sounds are not served, since the plan counts nothing for them"),
        ("--api-key", "remove it: the HTTP front of the pod listens, checks keys and serves metrics"),
        ("--tools", "remove it: it would let requests run programs or read files in the pod"),
    ],
)
def test_an_owned_flag_says_what_to_do_instead(flag: str, fix: str) -> None:
    (fault,) = flags.faults([flag, "x"])
    assert fault.fix == fix


def test_a_misspelt_flag_gets_the_nearest() -> None:
    (fault,) = flags.faults(["--temprature", "1"])
    assert fault.fix == "write `--temperature`"


def test_no_flag_is_both_free_and_owned() -> None:
    assert not flags.OWNED_FLAGS.keys() & flags.FREE_FLAGS.keys()
