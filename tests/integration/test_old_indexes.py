"""Indexes of older versions stay until somebody has them dropped who knows that nobody needs them."""

import pytest

from agent_service.cli.doctor import examine
from agent_service.store import Store
from agent_service.store.old_indexes import OLD_INDEXES
from agent_service.store.workers import BY_LINES, SignOfLife
from tests.integration.test_cli_doctor import settings
from tests.support.log_lines import log_lines
from tests.support.worker_tools import HandlerWorker, Raw, echo, ended, running, submit

pytestmark = pytest.mark.fresh_database


@pytest.fixture(autouse=True)
async def _made_by_an_older_version(store: Store, raw: Raw) -> None:
    for index in OLD_INDEXES:
        await raw[index.collection].create_indexes([index.model()])


async def sign_of(store: Store, *, claims_by: str) -> None:
    now = store.clock.now()
    await store.workers.report(
        SignOfLife(
            id="somebody",
            service="generation",
            queues=("default",),
            host="host",
            pid=1,
            concurrency=1,
            running=0,
            claims_by=claims_by,
            started_at=now,
            seen_at=now,
        )
    )


async def test_work_goes_on_without_them(store: Store) -> None:
    async with running(HandlerWorker(store, echo)):
        await store.drop_old_indexes()
        assert await store.problems() == []
        assert (await ended(store, await submit(store))).status.ended


async def test_the_log_tells_of_them_at_the_start_and_not_without_them(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    for there in (True, False):
        with log_lines("INFO") as lines:
            async with Store.connect(mongodb_uri, database=database_name) as starting:
                await starting.prepare()
        assert any("--drop-old-indexes" in line for line in lines) == there
        await store.drop_old_indexes()


async def test_the_doctor_drops_none_while_a_worker_of_an_older_version_is_there(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    await sign_of(store, claims_by="")
    wanted = settings(mongodb_uri, database_name, tmp_path)
    refused = [each async for each in examine(wanted, fix=False, drop_old_indexes=True) if each.remedy]
    assert any("generation on host" in each.text for each in refused)
    assert await store.old_indexes() == OLD_INDEXES
    await sign_of(store, claims_by=BY_LINES)
    assert [each async for each in examine(wanted, fix=False, drop_old_indexes=True)]
    assert await store.old_indexes() == ()


async def test_the_doctor_tells_of_them_and_drops_them_when_asked(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    wanted = settings(mongodb_uri, database_name, tmp_path)
    told = [each async for each in examine(wanted, fix=False) if "only for older versions" in each.text]
    assert [each.remedy for each in told] == [None] * len(OLD_INDEXES)
    dropped = [each.text async for each in examine(wanted, fix=False, drop_old_indexes=True)]
    assert not [text for text in dropped if "only for older versions" in text]
    assert await store.old_indexes() == ()
