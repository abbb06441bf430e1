"""Events are derived from what is stored, in order, without gaps, and never twice."""

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.context import AttemptOutcome, AttemptRecord, ContextStatus
from agent_service.domain.events import (
    STEP_END,
    ChunkPage,
    Cursor,
    Event,
    EventType,
    InvalidCursor,
    Position,
    step_events,
)
from tests.support.event_lives import ERROR, NOW, Moment, blocked_context, lives


@given(lives, st.data())
def test_a_reader_that_looks_now_and_then_sees_all_of_the_last_attempt_once_and_in_order(
    moments: list[Moment], data: st.DataObject
) -> None:
    looks = sorted(data.draw(st.sets(st.integers(0, len(moments) - 1))) | {len(moments) - 1})
    cursor, seen = Cursor(accepted=True), list[Event]()
    for look in looks:
        events = moments[look].read(cursor)
        seen += events
        # A reader may drop its connection at any event, and goes on from the id that it has.
        cursor = Cursor.parse(str(events[-1].cursor)) if events else cursor
    last = moments[-1].context.attempt
    text = "".join(e.delta or "" for e in seen if e.type is EventType.OUTPUT_DELTA and e.attempt == last)
    assert text == "".join(c.delta for c in moments[-1].chunks if c.attempt == last)
    ids = [str(event.cursor) for event in seen]
    assert len(ids) == len(set(ids))
    positions = [event.cursor.steps["draft"] for event in seen]
    assert positions == sorted(positions)
    assert positions[-1] == STEP_END
    assert (seen[0].type, seen[0].attempt) == (EventType.STEP_PENDING, 0)


@given(lives, st.data())
def test_no_chunk_of_an_older_attempt_is_shown_after_a_newer_one_was_seen(
    moments: list[Moment], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(moments) - 1))
    events = moments[first].read(Cursor(accepted=True))
    cursor = events[-1].cursor if events else Cursor(accepted=True)
    newest = max((event.attempt or 0 for event in events), default=0)
    # A stale view, as after reading from a member that is behind.
    stale = moments[data.draw(st.integers(0, first))].read(cursor)
    assert all((event.attempt or 0) >= newest for event in stale)


def test_a_blocked_step_shows_nothing_and_a_step_cancelled_while_blocked_only_its_end() -> None:
    blocked = blocked_context()
    assert step_events(blocked, ChunkPage(), Cursor(accepted=True)) == []
    cancelled = dataclasses.replace(blocked, status=ContextStatus.CANCELLED, finished_at=NOW)
    kinds = [event.type for event in step_events(cancelled, ChunkPage(), Cursor(accepted=True))]
    assert kinds == [EventType.STEP_CANCELLED]


def test_a_retry_tells_its_error_and_when_it_goes_on() -> None:
    record = AttemptRecord(
        attempt=1,
        token="t",
        worker="w",
        started_at=NOW,
        ended_at=NOW,
        outcome=AttemptOutcome.RETRYING,
        chunks=0,
        error=ERROR,
        run_at=NOW + timedelta(seconds=3),
    )
    context = dataclasses.replace(
        blocked_context(), status=ContextStatus.SCHEDULED, attempt=1, started_at=NOW, history=(record,)
    )
    last = step_events(context, ChunkPage(), Cursor(accepted=True))[-1]
    assert (last.type, last.attempt, last.error, last.run_at) == (
        EventType.STEP_RETRYING,
        1,
        ERROR,
        NOW + timedelta(seconds=3),
    )


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
        st.one_of(
            st.just(STEP_END),
            st.builds(Position, attempt=st.integers(0, 10**6), index=st.integers(0, 10**6)),
        ),
    ),
    st.booleans(),
)
def test_a_cursor_is_read_back_as_it_was_written(steps: dict[str, Position], ended: bool) -> None:
    cursor = Cursor(accepted=True, ended=ended, steps=steps)
    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@1",
        "draft:1.1",
        "@0,draft",
        "@0,draft:1",
        "@0,draft:a.1",
        "@0,d:1.1,d:1.2",
        "@0,:1.1",
        "@0,d:².1",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.parse(text)


@given(st.text())
def test_any_text_is_a_cursor_or_an_invalid_one(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor:
        return
    assert cursor.accepted
