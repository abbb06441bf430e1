from datetime import timedelta

from agent_service.store.doorbell_topics import Ring, Topic
from agent_service.store.progress_bell import Progress, ProgressBell

NONE = timedelta(0)


def ring(context_id: str | None = None, *, request_id: str | None = "r", is_chunk: bool = False) -> Ring:
    return Ring(topic=Topic.PROGRESS, key=request_id, context_id=context_id, is_chunk=is_chunk)


async def test_at_first_anything_may_have_changed_and_then_only_what_rang() -> None:
    bell = ProgressBell("r")
    assert bell.take() == Progress(everything=True)
    assert bell.take() == Progress()
    bell.hear(ring("r.draft", is_chunk=True))
    bell.hear(ring("r.draft", is_chunk=True))
    bell.hear(ring("r.check"))
    assert await bell.wait(NONE)
    assert bell.take() == Progress(contexts={"r.check"}, chunks={"r.draft"})
    assert not await bell.wait(NONE)


async def test_news_of_others_do_not_ring() -> None:
    bell = ProgressBell("r")
    bell.take()
    bell.hear(ring("other.draft", request_id="other"))
    bell.hear(Ring(topic=Topic.STOP, key="r"))
    assert not bell.rung
    assert bell.take() == Progress()


async def test_what_happened_to_the_request_itself_or_was_missed_may_be_anything() -> None:
    bell = ProgressBell("r")
    for news in (ring(), ring(request_id=None)):
        bell.take()
        bell.hear(news)
        assert await bell.wait(NONE)
        assert bell.take() == Progress(everything=True)
    bell.miss()
    assert await bell.wait(NONE)
    assert bell.take() == Progress(everything=True)


async def test_who_could_not_read_looks_at_everything_the_next_time_and_is_not_rung_for_it() -> None:
    bell = ProgressBell("r")
    bell.take()
    bell.forget()
    assert not bell.rung
    assert bell.take() == Progress(everything=True)
