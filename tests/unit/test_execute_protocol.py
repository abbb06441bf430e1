"""Answers of the protocol `execute`, event by event."""

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.base_services.execute_protocol import ExecuteProtocol
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject, JsonValue


def test_deltas_come_before_the_output() -> None:
    reading = ExecuteProtocol().read_stream()
    events = ['{"delta": "a"}', '{"progress": 5}', '{"delta": "b"}']
    assert [(reading.take(event), reading.ended) for event in events] == [
        ("a", False),
        ("", False),
        ("b", False),
    ]
    assert reading.take('{"output": {"text": "ab"}, "usage": {"n": 2}}') == ""
    assert reading.ended
    assert reading.answer() == BaseServiceAnswer(output={"text": "ab"}, usage={"n": 2})


@pytest.mark.parametrize("output", [None, False, 0, "", [], {}])
def test_an_output_may_be_any_json_value(output: JsonValue) -> None:
    assert ExecuteProtocol().read_object({"output": output}) == BaseServiceAnswer(output=output)


def test_a_stream_without_output_is_incomplete() -> None:
    reading = ExecuteProtocol().read_stream()
    reading.take('{"delta": "a"}')
    with pytest.raises(BaseServiceUnavailable) as caught:
        reading.answer()
    assert (caught.value.code, caught.value.answered) == ("incomplete_answer", True)


@pytest.mark.parametrize(
    "event", ['{"delta": 5}', '{"delta": null}', '{"delta": ["x"]}', "[1]", "nonsense", ""]
)
def test_a_broken_event_is_an_invalid_answer(event: str) -> None:
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        ExecuteProtocol().read_stream().take(event)


@pytest.mark.parametrize("body", [{}, {"result": 1}, {"output": 1, "usage": 5}])
def test_an_object_without_output_or_with_a_strange_usage_is_an_invalid_answer(body: JsonObject) -> None:
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        ExecuteProtocol().read_object(body)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ('{"error": {"detail": "no"}}', BaseServiceUnavailable),
        ('{"output": null, "error": {"detail": "no"}}', BaseServiceUnavailable),
        ('{"error": {"detail": "no", "status": 400}}', BaseServiceRejected),
    ],
)
def test_an_error_in_the_stream_is_an_error(event: str, kind: type[BaseServiceError]) -> None:
    reading = ExecuteProtocol().read_stream()
    with pytest.raises(kind, match="no"):
        reading.take(event)


def test_a_character_whose_halves_come_in_two_deltas_is_put_together() -> None:
    reading = ExecuteProtocol().read_stream()
    assert reading.take('{"delta": "a\\ud83d"}') == "a"
    assert reading.take('{"progress": 5}') == ""
    assert reading.take('{"delta": "\\ude00\\ud83d"}') == "😀"
    assert reading.take('{"output": 1}') == "\ufffd"
