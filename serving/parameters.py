"""The original's parameters in the engine's words: mapped, without effect here, or refused by name.

The original ran Hugging Face's `generate`, or Meta's llama with a few parameters of its own. What the engine
does alike is mapped; what had no effect at the value given is accepted; the rest is refused, because an
answer that ignored it would look right and be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_MAX_LENGTH = 200
MAX_SEQUENCES = 16
MAX_DIALOGS = 32
_SAMPLERS = ["penalties", "temperature", "top_k", "typ_p", "top_p"]
"""In Hugging Face's order; none of the engine's own beside them."""
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Generation:
    """One prompt's continuation. `max_length` counts prompt and answer together."""

    prompt: str
    max_length: int
    sequences: int = 1
    options: dict[str, Any] = field(default_factory=dict)


def falcon(data: Mapping[str, Any]) -> Generation:
    """Read the request of the original's falcon presets.

    Raises:
        Refusal: 400, naming the parameter.
    """
    values = {name: value for name, value in data.items() if value is not None}
    prompt = values.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt:
        raise _wrong("prompt", "must be a text that is not empty")
    for name, value in values.items():
        if name not in _FALCON:
            raise _wrong(name, "is no parameter of /chat")
        _FALCON[name](name, value)
    max_length = int(values.get("max_length", DEFAULT_MAX_LENGTH))
    sequences = int(values.get("num_return_sequences", 1))
    sampled = bool(values.get("do_sample", True))
    if sequences > 1 and not sampled:
        raise _wrong("num_return_sequences", "above 1 needs do_sample")
    options = _sampling(
        temperature=values.get("temperature", 1.0) if sampled else 0.0,
        top_p=values.get("top_p", 1.0),
        top_k=values.get("top_k", 10),
        typical_p=values.get("typical_p", 1.0),
        repeat_penalty=values.get("repetition_penalty", 1.0),
    )
    options["repeat_last_n"] = max_length  # the original looked at all of prompt and answer
    if banned := values.get("bad_words_ids"):
        options["logit_bias"] = [[word[0], False] for word in banned]
    return Generation(prompt, max_length, sequences, options)


def llama(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read the `parameters` of the original's llama-2 presets, for either of its paths.

    Raises:
        Refusal: 400, naming the parameter.
    """
    values = data.get("parameters")
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise _wrong("parameters", "must be an object")
    values = {name: value for name, value in values.items() if value is not None}
    for name, value in values.items():
        if name not in _LLAMA:
            raise _wrong(name, "is no parameter of the original")
        _LLAMA[name](name, value)
    options = _sampling(temperature=values.get("temperature", 0.6), top_p=values.get("top_p", 0.9))
    if "max_gen_len" in values:
        options["n_predict"] = int(values["max_gen_len"])
    return options


def dialogs(data: Mapping[str, Any]) -> list[list[dict[str, str]]]:
    """Read `input_data.input_string`: a batch of dialogs, each of which ends with the user's turn.

    Raises:
        Refusal: 400, with what is wrong.
    """
    _only(data, "input_data", "parameters")
    source = data.get("input_data")
    if not isinstance(source, dict):
        raise _wrong("input_data", "must be an object with input_string")
    _only(source, "input_string")
    batch = source.get("input_string")
    if not isinstance(batch, list) or not all(isinstance(dialog, list) and dialog for dialog in batch):
        raise _wrong("input_string", "must be a list of dialogs, each a list of messages")
    _check_size("input_string", batch)
    return [_dialog(dialog) for dialog in batch]


def prompts(data: Mapping[str, Any]) -> list[str]:
    """Read `prompts`, the batch of the original's llama-2 base presets.

    Raises:
        Refusal: 400, with what is wrong.
    """
    _only(data, "prompts", "parameters")
    batch = data.get("prompts")
    if not isinstance(batch, list) or not all(isinstance(prompt, str) and prompt for prompt in batch):
        raise _wrong("prompts", "must be a list of texts that are not empty")
    _check_size("prompts", batch)
    return batch


def _sampling(
    *,
    temperature: float,
    top_p: float,
    top_k: int = 0,
    typical_p: float = 1.0,
    repeat_penalty: float = 1.0,
) -> dict[str, Any]:
    """Every sampler that is used, and its value; the engine's defaults differ from the original's."""
    return {
        "samplers": _SAMPLERS,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "typical_p": typical_p,
        "min_p": 0.0,
        "repeat_penalty": repeat_penalty,
    }


def _dialog(messages: list[Any]) -> list[dict[str, str]]:
    for message in messages:
        if (
            not isinstance(message, dict)
            or set(message) != {"role", "content"}
            or message["role"] not in _ROLES
            or not isinstance(message["content"], str)
        ):
            raise _wrong("input_string", f"must hold messages with role ({', '.join(_ROLES)}) and content")
    turns = [message["role"] for message in messages if message["role"] != "system"]
    if any(message["role"] == "system" for message in messages[1:]):
        raise _wrong("input_string", "may hold a system message only at a dialog's start")
    if not len(turns) % 2 or turns != [("user", "assistant")[index % 2] for index in range(len(turns))]:
        raise _wrong("input_string", "must alternate user and assistant and end with the user's turn")
    return messages


def _check_size(name: str, batch: list[Any]) -> None:
    if not 1 <= len(batch) <= MAX_DIALOGS:
        raise _wrong(name, f"must hold 1 to {MAX_DIALOGS} entries")


def _only(data: Mapping[str, Any], *names: str) -> None:
    for name in data:
        if name not in names:
            raise _wrong(name, "is no parameter of the original")


def _wrong(name: str, reason: str) -> Refusal:
    return Refusal(400, f"{name} {reason}")


def _number(low: float, high: float, *, above: bool = False) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not low <= value <= high or (above and value == low) or value == _INFINITE:
            least = f"above {low:g}" if above else f"at least {low:g}"
            most = "" if high == float("inf") else f" and at most {high:g}"
            raise _wrong(name, f"must be a number {least}{most}")

    return check


def _whole(low: int, high: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong(name, f"must be a whole number from {low} to {high}")

    return check


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(name, "must be true or false")


def _only_value(expected: Any) -> Callable[[str, Any], None]:
    """What the engine cannot do: accepted at the value that does nothing."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) is not isinstance(expected, bool) or value != expected:
            raise _wrong(name, f"is not supported by this engine other than {expected!r}")

    return check


def _unsupported(name: str, value: Any) -> None:
    raise _wrong(name, "is not supported by this engine")


def _without_effect(name: str, value: Any) -> None:
    """With one beam, one sequence at a time and finite logits it never changed an answer."""


def _banned(name: str, value: Any) -> None:
    words = isinstance(value, list) and all(
        isinstance(word, list) and all(type(token) is int and token >= 0 for token in word) for word in value
    )
    if not words or any(len(word) != 1 for word in value):
        raise _wrong(name, "must be a list of lists of one token id; longer words are not supported")


_INFINITE = float("inf")
_FALCON: dict[str, Callable[[str, Any], None]] = {
    "max_length": _whole(1, 2**20),
    "min_length": _only_value(0),
    "do_sample": _flag,
    "early_stopping": _without_effect,
    "num_beams": _only_value(1),
    "num_beam_groups": _only_value(1),
    "diversity_penalty": _only_value(0),
    "temperature": _number(0, _INFINITE, above=True),
    "top_k": _whole(0, 2**20),
    "top_p": _number(0, 1),
    "typical_p": _number(0, 1, above=True),
    "repetition_penalty": _number(0, _INFINITE, above=True),
    "length_penalty": _without_effect,
    "no_repeat_ngram_size": _only_value(0),
    "encoder_no_repeat_ngram_size": _only_value(0),
    "bad_words_ids": _banned,
    "num_return_sequences": _whole(1, MAX_SEQUENCES),
    "output_scores": _only_value(False),
    "return_dict_in_generate": _only_value(False),
    "pad_token_id": _without_effect,
    "eos_token_id": _unsupported,
    "forced_bos_token_id": _unsupported,
    "forced_eos_token_id": _unsupported,
    "remove_invalid_values": _without_effect,
}
_LLAMA: dict[str, Callable[[str, Any], None]] = {
    "max_gen_len": _whole(1, 2**20),
    "temperature": _number(0, _INFINITE),
    "top_p": _number(0, 1, above=True),
}
