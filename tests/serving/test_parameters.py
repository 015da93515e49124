"""The original's parameters: mapped, without effect, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from serving import parameters
from serving.refusals import Refusal


def test_the_quick_start_needs_only_a_prompt() -> None:
    wanted = parameters.falcon({"prompt": "Hi"})
    assert (wanted.prompt, wanted.max_length, wanted.sequences) == ("Hi", 200, 1)
    assert wanted.options["temperature"] == 1.0
    assert wanted.options["top_k"] == 10
    assert wanted.options["min_p"] == 0.0


def test_every_default_of_the_original_written_out_changes_nothing() -> None:
    written = {
        "prompt": "Hi", "max_length": 200, "min_length": 0, "do_sample": True, "early_stopping": False,
        "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "temperature": 1.0, "top_k": 10,
        "top_p": 1, "typical_p": 1, "repetition_penalty": 1, "length_penalty": 1, "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "num_return_sequences": 1,
        "output_scores": False, "return_dict_in_generate": False, "pad_token_id": None, "eos_token_id": None,
        "forced_bos_token_id": None, "forced_eos_token_id": None, "remove_invalid_values": None,
    }  # fmt: skip
    assert parameters.falcon(written) == parameters.falcon({"prompt": "Hi"})


def test_parameters_that_the_engine_knows_are_mapped() -> None:
    wanted = parameters.falcon(
        {"prompt": "Hi", "max_length": 50, "temperature": 0.5, "top_k": 3, "top_p": 0.8, "typical_p": 0.7,
         "repetition_penalty": 1.2, "bad_words_ids": [[5], [7]], "num_return_sequences": 2}
    )  # fmt: skip
    assert wanted.sequences == 2
    assert wanted.options == {
        "samplers": ["penalties", "temperature", "top_k", "typ_p", "top_p"],
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.8,
        "typical_p": 0.7,
        "min_p": 0.0,
        "repeat_penalty": 1.2,
        "repeat_last_n": 50,
        "logit_bias": [[5, False], [7, False]],
    }


def test_without_sampling_the_likeliest_token_is_taken() -> None:
    assert parameters.falcon({"prompt": "Hi", "do_sample": False}).options["temperature"] == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("num_beams", 4, id="beams"),
        pytest.param("num_beam_groups", 2, id="beam groups"),
        pytest.param("diversity_penalty", 0.5, id="a penalty between beam groups"),
        pytest.param("min_length", 5, id="a least length"),
        pytest.param("no_repeat_ngram_size", 3, id="n-grams"),
        pytest.param("encoder_no_repeat_ngram_size", 3, id="an encoder's n-grams"),
        pytest.param("bad_words_ids", [[1, 2]], id="banned words of several tokens"),
        pytest.param("bad_words_ids", ["word"], id="banned words that are no ids"),
        pytest.param("output_scores", True, id="scores, which the answer has no place for"),
        pytest.param("return_dict_in_generate", True, id="a dictionary"),
        pytest.param("eos_token_id", 11, id="another end"),
        pytest.param("forced_bos_token_id", 1, id="a forced start"),
        pytest.param("forced_eos_token_id", 1, id="a forced end"),
        pytest.param("temperature", 0, id="a temperature that is no number above zero"),
        pytest.param("temperature", "warm", id="a temperature in words"),
        pytest.param("temperature", float("inf"), id="an infinite temperature"),
        pytest.param("repetition_penalty", float("inf"), id="an infinite penalty"),
        pytest.param("top_p", float("nan"), id="a share that is no number"),
        pytest.param("top_p", 1.5, id="a share above one"),
        pytest.param("top_k", 2.5, id="half a token"),
        pytest.param("max_length", True, id="a truth for a number"),
        pytest.param("max_length", 0, id="no length"),
        pytest.param("num_return_sequences", 1000, id="too many sequences"),
        pytest.param("do_sample", "yes", id="a word for a truth"),
        pytest.param("stream", True, id="a parameter of another API"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(Refusal, match=rf"^{name} ") as caught:
        parameters.falcon({"prompt": "Hi", name: value})
    assert caught.value.status == 400


@pytest.mark.parametrize("prompt", [None, "", 5, ["a"]])
def test_a_prompt_is_a_text(prompt: Any) -> None:
    with pytest.raises(Refusal, match=r"^prompt must be a text"):
        parameters.falcon({"prompt": prompt})


def test_several_sequences_need_sampling() -> None:
    with pytest.raises(Refusal, match=r"^num_return_sequences above 1 needs do_sample"):
        parameters.falcon({"prompt": "Hi", "num_return_sequences": 2, "do_sample": False})


def test_llama_has_its_own_defaults() -> None:
    options = parameters.llama({})
    assert (options["temperature"], options["top_p"], options["top_k"]) == (0.6, 0.9, 0)
    assert "n_predict" not in options
    assert parameters.llama({"parameters": {"max_gen_len": 5}})["n_predict"] == 5


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"max_gen_len": 0}, id="no length"),
        pytest.param({"temperature": -1}, id="a negative temperature"),
        pytest.param({"top_k": 5}, id="a parameter that llama's presets did not have"),
        pytest.param([], id="a list"),
    ],
)
def test_parameters_of_llama_are_checked(given: Any) -> None:
    with pytest.raises(Refusal):
        parameters.llama({"parameters": given})


def _turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "text"} for role in roles]


@pytest.mark.parametrize(
    "roles",
    [
        pytest.param(("user",), id="one question"),
        pytest.param(("system", "user"), id="with a system message"),
        pytest.param(("user", "assistant", "user"), id="a conversation"),
    ],
)
def test_dialogs_end_with_the_users_turn(roles: tuple[str, ...]) -> None:
    batch = [_turns(*roles), _turns("user")]
    assert parameters.dialogs({"input_data": {"input_string": batch}}) == batch


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([_turns("user", "assistant")], id="ends with the assistant"),
        pytest.param([_turns("assistant", "user")], id="starts with the assistant"),
        pytest.param([_turns("user", "user")], id="the user twice"),
        pytest.param([_turns("user", "system")], id="a late system message"),
        pytest.param([_turns("system")], id="nothing but a system message"),
        pytest.param([_turns("tool")], id="an unknown role"),
        pytest.param([[{"role": "user"}]], id="no content"),
        pytest.param([[]], id="an empty dialog"),
        pytest.param([], id="no dialog"),
        pytest.param(_turns("user"), id="messages without a batch around"),
        pytest.param([_turns("user")] * 33, id="too many"),
        pytest.param("Hi", id="a text"),
    ],
)
def test_other_dialogs_are_refused(batch: Any) -> None:
    with pytest.raises(Refusal, match=r"^input_string ") as caught:
        parameters.dialogs({"input_data": {"input_string": batch}})
    assert caught.value.status == 400


@pytest.mark.parametrize("batch", [None, [], [""], [5], "text", ["x"] * 33])
def test_a_batch_of_prompts_is_checked(batch: Any) -> None:
    with pytest.raises(Refusal, match=r"^prompts "):
        parameters.prompts({"prompts": batch})
