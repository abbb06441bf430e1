"""The routes of the fleet, over a store without a server."""

import pytest

from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from tests.support.api import SUBMISSION, assert_problem, calling, make_app, memory_store
from tests.support.fleets import a_sign


async def test_health_is_503_while_contexts_wait_where_nobody_takes_them() -> None:
    store = memory_store()
    async with calling(make_app(store)) as api:
        idle = await api.get("/workers/health")
        assert (idle.status_code, idle.json()["status"], idle.json()["workers_online"]) == (200, "healthy", 0)
        assert idle.headers["cache-control"] == "no-store"
    async with calling(make_app(store)) as api:
        assert (await api.post("/v1/requests", json=SUBMISSION)).status_code == 202
        waiting = await api.get("/workers/health")
        assert (waiting.status_code, waiting.json()["status"]) == (503, "unhealthy")
        # The second step waits for the first one, and not for a worker.
        assert [unserved["service"] for unserved in waiting.json()["unserved"]] == ["generation"]
    await store.workers.report(a_sign(store))
    async with calling(make_app(store)) as api:
        served = await api.get("/workers/health")
        assert (served.status_code, served.json()["workers_online"]) == (200, 1)


async def test_statistics_tell_what_was_submitted() -> None:
    async with calling(make_app(memory_store())) as api:
        await api.post("/v1/requests", json=SUBMISSION)
        answer = await api.get("/workers/stats")
        assert answer.status_code == 200
        analysis, generation = answer.json()["services"]
    assert (analysis["queues"][0]["blocked"], generation["queues"][0]["pending"]) == (1, 1)


@pytest.mark.parametrize("path", ["/workers/health", "/workers/stats"])
async def test_without_mongodb_they_are_problems_that_name_no_host(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = memory_store()

    async def unreachable(*args: object) -> None:
        raise StoreUnavailable("db-7.internal:27017 refused")

    monkeypatch.setattr(store.workers, "seen_since", unreachable)
    async with calling(make_app(store)) as api:
        refused = await api.get(path)
        assert "internal" not in assert_problem(refused, 503, "store_unavailable")["detail"]
