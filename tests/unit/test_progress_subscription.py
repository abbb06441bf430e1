from datetime import timedelta

from agent_service.store.notifier.notification import Notification, Topic
from agent_service.store.notifier.progress_subscription import Progress, ProgressSubscription

NONE = timedelta(0)


def news(
    context_id: str | None = None, *, request_id: str | None = "r", is_chunk: bool = False
) -> Notification:
    return Notification(topic=Topic.PROGRESS, key=request_id, context_id=context_id, is_chunk=is_chunk)


async def test_at_first_anything_may_have_changed_and_then_only_what_was_said() -> None:
    subscription = ProgressSubscription("r")
    assert subscription.take() == Progress(everything=True)
    assert subscription.take() == Progress()
    subscription.receive(news("r.draft", is_chunk=True))
    subscription.receive(news("r.draft", is_chunk=True))
    subscription.receive(news("r.check"))
    assert await subscription.wait(NONE)
    assert subscription.take() == Progress(contexts={"r.check"}, chunks={"r.draft"})
    assert not await subscription.wait(NONE)


async def test_what_is_said_of_others_wakes_nobody() -> None:
    subscription = ProgressSubscription("r")
    subscription.take()
    subscription.receive(news("other.draft", request_id="other"))
    subscription.receive(Notification(topic=Topic.STOP, key="r"))
    assert not subscription.notified
    assert subscription.take() == Progress()


async def test_what_happened_to_the_request_itself_or_was_missed_may_be_anything() -> None:
    subscription = ProgressSubscription("r")
    for each in (news(), news(request_id=None)):
        subscription.take()
        subscription.receive(each)
        assert await subscription.wait(NONE)
        assert subscription.take() == Progress(everything=True)
    subscription.missed()
    assert await subscription.wait(NONE)
    assert subscription.take() == Progress(everything=True)


async def test_who_could_not_read_looks_at_everything_the_next_time_and_is_not_rung_for_it() -> None:
    subscription = ProgressSubscription("r")
    subscription.take()
    subscription.forget()
    assert not subscription.notified
    assert subscription.take() == Progress(everything=True)
