"""The input of a step, as a chat completion."""

import pytest

from agent_service.base_services.openai_input import chat_request
from agent_service.domain.errors import BaseServiceRejected
from agent_service.domain.json_value import JsonValue


def test_a_template_becomes_one_message_of_the_user() -> None:
    assert chat_request({"template": "Hello"}, "tiny") == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_system_text_goes_first() -> None:
    body = chat_request({"template": "Hello", "system": "Be brief."}, None)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    assert "model" not in body


def test_messages_and_known_parameters_go_through_as_they_are() -> None:
    step_input: dict[str, JsonValue] = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}], "name": "n"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "temperature": 0,
        "max_tokens": 5,
        "stop": ["x"],
        "seed": 1,
        "stream": False,
    }
    assert chat_request(step_input, None) == step_input


def test_the_model_may_be_chosen_only_where_the_operator_has_not() -> None:
    assert chat_request({"template": "x", "model": "other"}, None)["model"] == "other"
    assert chat_request({"template": "x", "model": "tiny"}, "tiny")["model"] == "tiny"
    with pytest.raises(BaseServiceRejected, match="operator"):
        chat_request({"template": "x", "model": "other"}, "tiny")


@pytest.mark.parametrize(
    ("step_input", "named"),
    [
        ("text", "object"),
        (None, "object"),
        ({}, "template"),
        ({"template": "x", "messages": [{"role": "user"}]}, "either"),
        ({"template": 5}, "template"),
        ({"template": "x", "system": 5}, "system"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, "1"),
        ({"messages": [{"role": "user"}], "system": "x"}, "system"),
        ({"template": "x", "stream": "no"}, "stream"),
        ({"template": "x", "model": 1}, "model"),
        ({"template": "x", "stream": None}, "stream"),
        ({"template": "x", "max_token": 5}, "'max_token'"),
        ({"template": "x", "n": 2}, "'n'"),
        ({"template": "x", "stream_options": {}}, "'stream_options'"),
        ({"messages": {"role": "user", "content": "x"}}, "messages"),
        ({"messages": ["x"]}, "0"),
        ({"messages": [{"role": 1, "content": "x"}]}, "0"),
        ({"messages": None}, "messages"),
        ({"template": None}, "template"),
    ],
)
def test_a_wrong_input_is_refused_with_the_field_named(step_input: JsonValue, named: str) -> None:
    with pytest.raises(BaseServiceRejected) as caught:
        chat_request(step_input, "tiny")
    assert caught.value.code == "invalid_input"
    assert named in caught.value.message
