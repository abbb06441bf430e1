import json
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_service.api.event_frames import (
    STREAMED_EVENT_SCHEMA,
    draining_frame,
    event_frame,
    unauthorized_frame,
)
from agent_service.api.request_answer import moment
from agent_service.domain.events import Cursor, Event, EventType, Position
from tests.support.contexts import AN_ERROR, NOW, SECOND

CURSOR = Cursor(accepted=True, steps={"draft": Position(attempt=1, index=17)})
DELTA = Event(
    type=EventType.OUTPUT_DELTA,
    request_id="r",
    at=NOW,
    cursor=CURSOR,
    step="draft",
    attempt=1,
    seq=17,
    delta="word",
)


def test_a_frame_has_the_cursor_the_type_and_only_the_fields_of_the_event() -> None:
    head, event, data, *end = event_frame(DELTA).decode().split("\n")
    assert (head, event, end) == ("id: @0,draft:1.17", "event: output.delta", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "output.delta",
        "request_id": "r",
        "at": moment(NOW),
        "step": "draft",
        "attempt": 1,
        "seq": 17,
        "delta": "word",
    }


def test_a_retry_says_why_and_when() -> None:
    retrying = replace(
        DELTA, type=EventType.STEP_RETRYING, seq=None, delta=None, error=AN_ERROR, run_at=NOW + SECOND
    )
    data = json.loads(event_frame(retrying).decode().split("\n")[2].removeprefix("data: "))
    assert data["error"] == {"code": "no_answer", "message": "nobody answered", "retryable": True}
    assert data["run_at"] == moment(NOW + SECOND)
    assert "delta" not in data


@given(st.text(st.characters() | st.sampled_from("\r\n\x0b\x0c\x1c\x85\u2028\u2029\ud800")))
def test_no_text_breaks_a_line(delta: str) -> None:
    frame = event_frame(replace(DELTA, delta=delta))
    assert frame.isascii()
    lines = frame.decode().splitlines()
    assert len(lines) == 4
    assert json.loads(lines[2].removeprefix("data: "))["delta"] == delta


def test_the_last_frame_of_a_stopping_process_moves_no_cursor() -> None:
    lines = draining_frame("r").decode().split("\n")
    assert lines[:2] == ["event: server.draining", "retry: 1000"]
    assert json.loads(lines[2].removeprefix("data: ")) == {"type": "server.draining", "request_id": "r"}
    assert lines[3:] == ["", ""]


def test_the_last_frame_for_a_reader_without_a_valid_key_moves_no_cursor() -> None:
    lines = unauthorized_frame("r").decode().split("\n")
    assert lines[0] == "event: server.unauthorized"
    assert json.loads(lines[1].removeprefix("data: ")) == {"type": "server.unauthorized", "request_id": "r"}
    assert lines[2:] == ["", ""]


def test_the_document_names_every_event_that_a_server_says_of_itself() -> None:
    properties: Any = STREAMED_EVENT_SCHEMA["properties"]
    for frame in (draining_frame("r"), unauthorized_frame("r")):
        name = frame.decode().split("\n")[0].removeprefix("event: ")
        assert name in properties["event"]["enum"]
        assert name in properties["data"]["description"]
