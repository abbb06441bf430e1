import asyncio
from datetime import timedelta

import pytest

from agent_service.domain.errors import StoreUnavailable
from tests.support.api import assert_problem, calling, make_app, memory_store


async def test_a_process_lives_whatever_mongodb_does(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()

    async def unreachable() -> list[str]:
        raise StoreUnavailable("db-7.internal:27017 refused")

    monkeypatch.setattr(store, "problems", unreachable)
    async with calling(make_app(store)) as api:
        alive = await api.get("/healthz")
        assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
        refused = await api.get("/readyz")
        assert "internal" not in assert_problem(refused, 503, "store_unavailable")["detail"]
        assert refused.headers["retry-after"]


async def test_ready_says_what_is_missing_until_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    missing = ["index claim of collection contexts is missing"]

    async def problems() -> list[str]:
        return missing

    monkeypatch.setattr(store, "problems", problems)
    async with calling(make_app(store)) as api:
        assert assert_problem(await api.get("/readyz"), 503, "not_ready")["detail"] == missing[0]
        missing.clear()
        ready = await api.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_ready_does_not_wait_for_a_silent_mongodb(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    go_on = asyncio.Event()

    async def silent() -> list[str]:
        await go_on.wait()
        return []

    monkeypatch.setattr(store, "problems", silent)
    async with calling(make_app(store, answer_within=timedelta(milliseconds=20))) as api:
        assert_problem(await api.get("/readyz"), 503, "store_unavailable")
    go_on.set()
