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


def whole(message: object, finish_reason: str | None = "stop", **others: object) -> BaseServiceAnswer:
    body: Any = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], **others}
    return OpenAIProtocol("tiny").read_object(body)


def streamed(*deltas: object, **others: object) -> BaseServiceAnswer:
    return read(*(chunk(delta) for delta in deltas), chunk({}, "stop", **others), "[DONE]").answer()


def test_a_refusal_and_the_reasoning_are_in_the_output_beside_the_text() -> None:
    answer = streamed(
        {"role": "assistant", "content": None, "refusal": None},
        {"reasoning_content": "The user "},
        {"reasoning_content": "asks.", "reasoning": "asks."},
        {"content": "No", "annotations": [], "audio": None, "reasoning_details": [{"type": "x"}]},
        {"refusal": "I can"},
        {"refusal": "not."},
    )
    message = {"content": "No", "reasoning": "The user asks.", "refusal": "I cannot."}
    expected = {"text": "No", "model": "tiny", "finish_reason": "stop"}
    assert answer.output == expected | {"reasoning": "The user asks.", "refusal": "I cannot."}
    assert whole(message).output == answer.output


def test_members_that_nobody_knows_do_no_harm() -> None:
    answer = streamed(
        {"content": "a", "unknown": {"deep": [1]}, "refusal": 5, "reasoning": {"odd": True}},
        model={"no": "name"},
        choices_hint=3,
    )
    assert answer.output == {"text": "a", "model": "tiny", "finish_reason": "stop"}


def test_content_in_parts_is_the_text_of_its_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "Hel"},
        {"type": "text", "text": "lo"},
    ]
    assert streamed({"content": parts}).output == whole({"content": parts}).output
    output: Any = whole({"content": parts}).output
    assert output["text"] == "Hello"
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        streamed({"content": ["Hello"]})


def test_a_blank_event_keeps_the_connection_alive_and_says_nothing() -> None:
    reading = read("", "  ", chunk({"content": "a"}), "", chunk({}, "stop"), " [DONE]\n")
    assert reading.ended
    assert reading.answer().output == {"text": "a", "model": "tiny", "finish_reason": "stop"}


def test_a_choice_without_an_index_or_choices_without_a_choice_are_understood() -> None:
    reading = OpenAIProtocol("tiny").read_stream()
    assert reading.take('{"choices": [{"index": null, "delta": {"content": "a"}}]}') == "a"
    assert reading.take('{"choices": [{"delta": {"content": "b"}}]}') == "b"
    assert reading.take('{"choices": null}') == reading.take('{"choices": []}') == reading.take("{}") == ""
    assert reading.take('{"choices": [{"delta": null, "finish_reason": "stop"}]}') == ""
    assert reading.answer().output == {"text": "ab", "model": "tiny", "finish_reason": "stop"}


def test_a_character_whose_halves_come_apart_is_put_together() -> None:
    reading = OpenAIProtocol("tiny").read_stream()
    deltas = [reading.take(chunk({"content": text})) for text in ("a\ud83d", "\ude00b", "\ude00", "\ud83d")]
    deltas.append(reading.take(chunk({}, "stop")))
    assert deltas == ["a", "😀b", "\ufffd", "", "\ufffd"]
    output: Any = reading.answer().output
    assert output["text"] == "".join(deltas)
    assert whole({"content": "a\ud83d"}).output == {
        "text": "a\ufffd",
        "model": "tiny",
        "finish_reason": "stop",
    }


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_an_answer_that_the_server_gave_up_is_no_answer(reason: str) -> None:
    with pytest.raises(BaseServiceUnavailable, match=f"server_error.*{reason}"):
        read(chunk({"content": "a"}), chunk({}, reason), "[DONE]").answer()
    with pytest.raises(BaseServiceUnavailable, match=f"server_error.*{reason}"):
        whole({"content": "a"}, reason)


def test_a_filtered_or_cut_answer_says_so_itself() -> None:
    for reason in ("content_filter", "length"):
        output: Any = read(chunk({"content": "a"}), chunk({}, reason)).answer().output
        assert output == {"text": "a", "model": "tiny", "finish_reason": reason}


def test_the_last_usage_counts_where_each_chunk_has_one() -> None:
    reading = read(
        chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1}),
        chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
        chunk({}, usage=None),
    )
    assert reading.answer().usage == {"input_tokens": 3, "output_tokens": 2}
