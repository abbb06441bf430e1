"""Wherever a reader loses its connection, it sees what one sees that never does: over generated histories."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.context import ContextStatus
from agent_service.domain.events import ChunkPage, Cursor, Event, EventType, attempt_to_read
from agent_service.domain.request import RequestStatus
from agent_service.request_snapshot import LatestChunks, Snapshot, StepView
from agent_service.unseen_events import ChunkPages, UnseenEvents
from tests.support.api import memory_store
from tests.support.contexts import a_request, a_step
from tests.support.event_lives import NOW, Moment, life

STEPS = ("draft", "check")
REQUEST = a_request(*(a_step(name) for name in STEPS), id="r")
ENDS = st.sampled_from([ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED])
ATTEMPTS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=3)


class StoredPages(ChunkPages):
    """Pages of the chunks of one moment, or what the snapshot holds of them."""

    def __init__(self, moments: dict[str, Moment], limit: int) -> None:
        super().__init__(memory_store())
        self._moments = moments
        self._limit = limit

    async def read(self, view: StepView, cursor: Cursor) -> ChunkPage:
        wanted = attempt_to_read(view.context, cursor)
        held = view.latest.page(*wanted) if view.latest and wanted else None
        return held or self._moments[view.context.step].page(cursor, self._limit)


def histories(lives: dict[str, list[Moment]], order: Sequence[str]) -> Iterator[dict[str, Moment]]:
    """What is stored at each moment: the steps go on in this order, and then in their own."""
    places = dict.fromkeys(lives, 0)
    yield {name: lives[name][0] for name in lives}
    rest = [name for name in lives for _ in lives[name]]
    for name in [*order, *rest]:
        if places[name] + 1 < len(lives[name]):
            places[name] += 1
            yield {each: lives[each][place] for each, place in places.items()}


def snapshot_of(moments: dict[str, Moment], before: Snapshot | None, *, held: int | None) -> Snapshot:
    """What a tail would have: views of what changed, with the last `held` chunks if there are so many."""
    number = before.number + 1 if before else 1
    views = dict(before.views) if before else {}
    for name, moment in moments.items():
        chunks = tuple(c for c in moment.chunks if c.attempt == moment.context.attempt)
        latest = None
        if held is not None:
            first = max(len(chunks) - held, 0)
            latest = LatestChunks(attempt=moment.context.attempt, after=first, chunks=chunks[first:])
        known = views.get(name)
        if known is None or (known.context, known.latest) != (moment.context, latest) or held is None:
            views[name] = StepView(context=moment.context, latest=latest, changed_in=number)
    ended = all(moment.context.status.ended for moment in moments.values())
    status = RequestStatus.COMPLETED if ended else RequestStatus.RUNNING
    request = replace(REQUEST, status=status, finished_at=NOW if ended else None)
    return Snapshot(request=request, views=views, number=number)


async def read_on(snapshot: Snapshot, cursor: Cursor, pages: ChunkPages, seen: int) -> list[Event]:
    unseen = UnseenEvents(snapshot, cursor, pages, seen=seen)
    events: list[Event] = []
    while batch := await unseen.next():
        events += batch
    return events


async def read_one_by_one(snapshot: Snapshot, cursor: Cursor, pages: ChunkPages) -> list[Event]:
    """Each event with a connection of its own, which knows no more than the id of the last one."""
    events: list[Event] = []
    while True:
        batch = await UnseenEvents(snapshot, cursor, pages).next()
        if not batch:
            return events
        events.append(batch[0])
        cursor = Cursor.parse(str(batch[0].cursor))


@given(
    st.fixed_dictionaries({name: st.tuples(ATTEMPTS, ENDS) for name in STEPS}),
    st.lists(st.sampled_from(STEPS), max_size=30),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(0, 4)),
)
def test_a_reader_cut_off_at_every_event_sees_the_same_as_one_that_never_is(
    drawn: dict[str, tuple[list[tuple[int, bool]], ContextStatus]],
    order: list[str],
    limit: int,
    held: int | None,
) -> None:
    lives = {name: life(attempts, end, name) for name, (attempts, end) in drawn.items()}

    async def read() -> tuple[list[Event], list[Event]]:
        steady, cut = list[Event](), list[Event]()
        before: Snapshot | None = None
        for moments in histories(lives, order):
            snapshot = snapshot_of(moments, before, held=held)
            pages = StoredPages(moments, limit)
            cursor = steady[-1].cursor if steady else Cursor()
            steady += await read_on(snapshot, cursor, pages, before.number if before else 0)
            cut += await read_one_by_one(snapshot, cut[-1].cursor if cut else Cursor(), pages)
            before = snapshot
        return steady, cut

    steady, cut = asyncio.run(read())
    assert cut == steady
    assert len({str(event.cursor) for event in cut}) == len(cut)
    assert cut[-1].type is EventType.REQUEST_COMPLETED
    for name, moments in lives.items():
        last = moments[-1].context.attempt
        seen = [event for event in cut if event.step == name and event.attempt == last and event.delta]
        assert [event.delta for event in seen] == [c.delta for c in moments[-1].chunks if c.attempt == last]
