"""Tools through the front, with a template that knows them: the engine keeps the model to their schemas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from serving import standalone
from tests.serving import fronts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call one of these functions, described in <tools></tools>:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
To call it, answer with its name and arguments as JSON:
<tool_call>
{"name": "a name", "arguments": {"an argument": "a value"}}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""As many models have it; SmolLM2's own knows no tools."""
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Oslo"]}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
        },
    },
}


def before(city: str) -> list[dict[str, Any]]:
    """A turn that shows a small model how it is done: before a call the engine lets it say what it likes."""
    call = {
        "id": city,
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps({"city": city, "unit": "C"})},
    }
    return [
        {"role": "user", "content": f"What is the weather in {city}?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": city, "content": "12 degrees"},
    ]


QUESTION: Any = {
    "model": "smol",
    "messages": [
        *before("Oslo"),
        *before("Paris"),
        *before("Oslo"),
        {"role": "user", "content": "What is the weather in Rome?"},
    ],
    "tools": [WEATHER],
    "tool_choice": "required",
    "max_tokens": 400,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def client(
    engine: Engine, model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("tools")
    template = folder / "template.jinja"
    template.write_text(TEMPLATE)
    argv = standalone.server(model_file, parallel=1, context_size=1024, alias="smol").argv(str(model_file))
    place = argv.index("--port") + 1
    argv = [*argv[:place], str(standalone.free_port()), *argv[place + 1 :]]
    more = ["--", *argv, "--chat-template-file", str(template)]
    with (
        fronts.running(engine, model_file, folder, *more) as front,
        openai.OpenAI(base_url=f"{front.url}/v1", api_key="any", max_retries=0, timeout=100) as found,
    ):
        yield found


def test_a_tool_is_called_as_its_schema_asks(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**QUESTION)
    assert answer.choices[0].finish_reason == "tool_calls"
    calls: Any = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather"]
    assert fits(calls[0].function.arguments)


def test_a_call_streams_in_pieces(client: openai.OpenAI) -> None:
    stream: Any = client.chat.completions.create(**QUESTION, stream=True)
    parts = [
        call.function
        for chunk in stream
        for choice in chunk.choices
        for call in choice.delta.tool_calls or ()
    ]
    assert "".join(part.name or "" for part in parts) == "weather"
    assert len(parts) > 2
    assert fits("".join(part.arguments or "" for part in parts))


def test_a_tools_answer_is_read(client: openai.OpenAI) -> None:
    called = client.chat.completions.create(**QUESTION).choices[0].message
    call: Any = (called.tool_calls or [])[0]
    told = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    messages = [*QUESTION["messages"], called.model_dump(exclude_none=True), told]
    question = {**QUESTION, "messages": messages, "tool_choice": "none", "max_tokens": 8}
    question["extra_body"] = {"ignore_eos": True}
    assert client.chat.completions.create(**question).choices[0].message.content


def fits(arguments: str) -> bool:
    """Whether a call's arguments are what its schema allows, whatever city was asked for."""
    found = json.loads(arguments)
    return found["city"] in ("Paris", "Oslo") and found["unit"] in ("C", "F") and len(found) == 2
