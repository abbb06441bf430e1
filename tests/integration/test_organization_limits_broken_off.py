"""Submissions that are cancelled while they are counted, and counts that break off: they hold nobody up."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.errors import LimitExceeded, StoreUnavailable
from agent_service.domain.quota import Quota
from agent_service.domain.request import Request
from agent_service.organization_limits import OrganizationLimits
from agent_service.request_writer import Accepted
from agent_service.store import Store
from tests.support.contexts import a_request

Raw = AsyncDatabase[dict[str, Any]]
Count = Callable[..., Any]


class Held:
    """The count of a store, which answers when it is let, or breaks off then."""

    def __init__(self, store: Store, *, error: BaseException | None = None) -> None:
        self.reached = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self._error = error
        self._take: Count = store.quotas.take

    async def take(self, *arguments: Any, **named: Any) -> Any:
        share = None if self._error else await self._take(*arguments, **named)
        self.reached.set()
        await self.may_go_on.wait()
        if self._error is not None:
            raise self._error
        return share


@pytest.fixture
async def limits(store: Store) -> OrganizationLimits:
    await store.quotas.prepare()
    return OrganizationLimits(store, Quota(max_open_requests=3, submissions_per_minute=10))


def submitting(limits: OrganizationLimits, count: int) -> list[asyncio.Task[Accepted]]:
    async def submit() -> Accepted:
        request: Request = a_request()

        async def write() -> Accepted:
            return Accepted(request=request, replayed=False)

        return await limits.submit(request, write)

    return [asyncio.create_task(submit()) for _ in range(count)]


async def ends_of(tasks: list[asyncio.Task[Accepted]]) -> list[type[object]]:
    async with asyncio.timeout(20):
        return [type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)]


async def given_back(store: Store, raw: Raw, *, used: int) -> bool:
    """Whether no place is kept, and the bucket lacks just so many."""
    await store.calls.finish()
    quota = await raw.quotas.find_one({})
    assert quota is not None
    left: float = quota["left"]
    return not quota["places"] and 10 - used <= left < 11 - used


async def test_those_who_are_cancelled_while_they_are_counted_give_their_places_back(
    store: Store, raw: Raw, limits: OrganizationLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(store)
    monkeypatch.setattr(store.quotas, "take", held.take)
    gone = submitting(limits, 2)
    await held.reached.wait()
    for task in gone:
        task.cancel()
    assert await ends_of(gone) == [asyncio.CancelledError] * 2
    later = submitting(limits, 1)
    held.may_go_on.set()
    assert await ends_of(later) == [Accepted]
    assert await given_back(store, raw, used=1)


async def test_one_that_is_cancelled_before_it_went_on_with_its_place_gives_it_back(
    store: Store, raw: Raw, limits: OrganizationLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = OrganizationLimits._take

    async def take_and_cancel(*arguments: Any, **named: Any) -> Any:
        taken = await take(*arguments, **named)
        # Its place is given to it in this turn of the loop, and it would go on in the next one.
        asyncio.get_running_loop().call_soon(gone.cancel)
        return taken

    monkeypatch.setattr(OrganizationLimits, "_take", take_and_cancel)
    (gone,) = submitting(limits, 1)
    assert await ends_of([gone]) == [asyncio.CancelledError]
    assert await given_back(store, raw, used=0)


async def test_a_place_of_one_that_is_cancelled_goes_to_another_that_was_counted_with_it(
    store: Store, raw: Raw, limits: OrganizationLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(store)
    monkeypatch.setattr(store.quotas, "take", held.take)
    first, *others = submitting(limits, 5)
    await held.reached.wait()
    first.cancel()
    held.may_go_on.set()
    assert await ends_of([first]) == [asyncio.CancelledError]
    assert sorted(each.__name__ for each in await ends_of(others)) == [
        "Accepted",
        "Accepted",
        "Accepted",
        LimitExceeded.__name__,
    ]
    assert await given_back(store, raw, used=3)


@pytest.mark.parametrize("error", [KeyError("odd"), asyncio.CancelledError()], ids=["odd", "cancelled"])
async def test_whatever_breaks_a_count_off_fails_those_who_wait_and_none_who_come_later(
    store: Store, limits: OrganizationLimits, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    held = Held(store, error=error)
    with monkeypatch.context() as patched:
        patched.setattr(store.quotas, "take", held.take)
        counted = submitting(limits, 2)
        await held.reached.wait()
        next_ones = submitting(limits, 2)
        # They wait for the group after this one.
        await asyncio.sleep(0)
        held.may_go_on.set()
        failure = type(error) if isinstance(error, Exception) else StoreUnavailable
        assert await ends_of([*counted, *next_ones]) == [failure] * 4
    later = submitting(limits, 1)
    assert await ends_of(later) == [Accepted]


async def test_what_was_taken_is_given_back_where_the_open_requests_cannot_be_counted(
    store: Store, raw: Raw, limits: OrganizationLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> int:
        raise StoreUnavailable("no primary")

    monkeypatch.setattr(store.quotas, "open_requests", away)
    assert await ends_of(submitting(limits, 2)) == [StoreUnavailable] * 2
    assert await given_back(store, raw, used=0)
