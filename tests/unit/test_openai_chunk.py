"""What a chat completion says, whichever server it comes from."""

import pytest

from agent_service.base_services.openai_chunk import content_of, first_choice, reasoning_of, usage_of
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject, JsonValue


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 2,
                "total_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            {
                "input_tokens": 3,
                "output_tokens": 2,
                "total_tokens": 5,
                "cached_input_tokens": 2,
                "reasoning_tokens": 1,
            },
        ),
        ({"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}, {"input_tokens": 3}),
        ({"prompt_tokens": True, "completion_tokens": 10**30, "total_tokens": -1}, None),
        ({"prompt_tokens": 1.5, "completion_tokens": "2"}, None),
        ([], None),
        (None, None),
    ],
)
def test_of_the_usage_the_counts_are_kept_that_can_be_ones(said: JsonValue, kept: JsonValue) -> None:
    assert usage_of({"usage": said}) == kept


def test_an_error_counts_before_any_choice() -> None:
    choices: JsonValue = [{"delta": {"content": "a"}, "finish_reason": "stop"}]
    with pytest.raises(BaseServiceUnavailable, match=r"server_error.*crashed"):
        first_choice({"choices": choices, "error": {"message": "crashed"}})
    with pytest.raises(BaseServiceRejected, match="too long"):
        first_choice({"object": "error", "message": "too long", "code": 400})
    assert first_choice({"choices": choices, "error": None}) == {
        "delta": {"content": "a"},
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, ""),
        ({"content": None}, ""),
        ({"content": "a"}, "a"),
        ({"content": []}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text"}]}, "a"),
    ],
)
def test_the_text_is_found_in_every_usual_shape(message: JsonObject, text: str) -> None:
    assert content_of(message) == text


def test_the_reasoning_has_one_name_here_whatever_the_server_calls_it() -> None:
    assert (
        reasoning_of({"reasoning": "a"}) == reasoning_of({"reasoning_content": "a", "reasoning": "b"}) == "a"
    )
    assert reasoning_of({"reasoning_content": "", "reasoning": {"summary": "a"}}) == ""
