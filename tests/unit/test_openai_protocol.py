"""Answers of the protocol `openai`, chunk by chunk."""

import json
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.base_services.openai_protocol import OpenAIProtocol
from agent_service.base_services.protocol import StreamReading
from agent_service.domain.errors import BaseServiceUnavailable


def chunk(delta: object = None, finish_reason: str | None = None, **others: object) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"model": "tiny", "choices": [choice], **others})


def read(*events: str) -> StreamReading:
    reading = OpenAIProtocol(None).read_stream()
    for event in events:
        reading.take(event)
    return reading


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "details": {}}


def test_the_text_model_reason_and_usage_are_put_together() -> None:
    reading = read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}, usage=None),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        json.dumps({"model": "tiny", "choices": [], "usage": USAGE}),
        "[DONE]",
    )
    assert reading.ended
    assert reading.answer() == BaseServiceAnswer(
        output={"text": "Hello", "model": "tiny", "finish_reason": "stop"},
        usage={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    )


def test_a_server_may_leave_out_the_last_mark_but_not_the_reason() -> None:
    assert read(chunk({"content": "a"}), chunk({}, "length")).answer().output == {
        "text": "a",
        "model": "tiny",
        "finish_reason": "length",
    }
    for events in ([chunk({"content": "a"})], [chunk({"content": "a"}), "[DONE]"], []):
        with pytest.raises(BaseServiceUnavailable, match="incomplete_answer"):
            read(*events).answer()


def test_only_the_first_choice_counts() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}
    reading = OpenAIProtocol("configured").read_stream()
    assert reading.take(json.dumps({"choices": [other]})) == ""
    assert reading.take(json.dumps({"choices": [other, {"index": 0, "delta": {"content": "yes"}}]})) == "yes"


def test_streamed_tool_calls_are_whole_in_the_output() -> None:
    first = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
    reading = read(
        chunk({"tool_calls": [first]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
        chunk({}, "tool_calls"),
    )
    output: Any = reading.answer().output
    assert output["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize(
    "event",
    [
        "nonsense",
        "[1]",
        '{"choices": 5}',
        '{"choices": [5]}',
        '{"choices": [{"delta": 5}]}',
        '{"choices": [{"delta": {"content": 5}}]}',
    ],
)
def test_a_broken_chunk_is_an_invalid_answer(event: str) -> None:
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        read(event)


def test_an_error_in_the_stream_is_an_error() -> None:
    with pytest.raises(BaseServiceUnavailable, match=r"rate_limited.*slow down"):
        read(chunk({"content": "a"}), '{"error": {"message": "slow down", "code": 429}}')


def test_an_answer_without_streaming_has_the_same_shape() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    body: Any = {
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    answer = OpenAIProtocol(None).read_object(body)
    assert answer.output == {"text": "", "model": "tiny", "finish_reason": "tool_calls", "tool_calls": calls}
    assert answer.usage == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"message": {"content": "short"}}]}])
def test_an_answer_without_a_finished_choice_is_not_accepted(body: dict[str, Any]) -> None:
    with pytest.raises(BaseServiceUnavailable, match=r"incomplete_answer|invalid_answer"):
        OpenAIProtocol(None).read_object(body)
