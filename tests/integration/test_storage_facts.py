"""How much is stored and what should be gone already, as `agent-service doctor` tells it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_service.cli.doctor import examine
from agent_service.settings import Settings, load_settings
from agent_service.store import Store
from agent_service.store.storage_facts import LATE, StorageFacts, read_storage_facts
from tests.support.contexts import a_context, a_request, a_step
from tests.support.worker_tools import Raw


def settings(uri: str, database: str, folder: Path) -> Settings:
    environ = {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": database,
        "AGENT_SERVICE_DATA": str(folder),
        "RETENTION_DAYS": "2.5",
    }
    return load_settings(environ, env_file=None, secrets_folder=None)


async def facts_of(uri: str, database: str) -> dict[str, StorageFacts]:
    found = await read_storage_facts(uri, database=database, now=datetime.now(UTC))
    return {each.collection: each for each in found}


async def test_documents_data_and_indexes_are_measured(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    empty = await facts_of(mongodb_uri, database_name)
    assert [(each.documents, each.data_bytes, each.late) for each in empty.values()] == [(0, 0, 0)] * 3
    await store.requests.insert(a_request(a_step("draft")))
    await store.contexts.insert([a_context(input="x" * 10_000), a_context()])
    facts = await facts_of(mongodb_uri, database_name)
    assert {name: each.documents for name, each in facts.items()} == {
        "requests": 1,
        "contexts": 2,
        "events": 0,
    }
    assert 10_000 < facts["contexts"].data_bytes < 20_000
    assert all(each.index_bytes > 0 for each in facts.values())


@pytest.mark.fresh_database
async def test_a_database_that_is_not_there_has_nothing_to_measure(
    mongodb_uri: str, database_name: str
) -> None:
    assert await facts_of(mongodb_uri, database_name) == {}


async def test_what_expired_long_ago_and_is_still_there_is_a_problem(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    # Without its index nothing is removed, however often the server looks.
    await raw.events.drop_index("expires")
    now = datetime.now(UTC)
    dates = [now - LATE - timedelta(minutes=5), now - LATE - timedelta(days=400), now, now + LATE, None]
    await raw.events.insert_many([{"_id": str(index), "expires_at": at} for index, at in enumerate(dates)])
    wanted = settings(mongodb_uri, database_name, tmp_path)
    findings = [finding async for finding in examine(wanted, fix=False)]
    (problem,) = [finding for finding in findings if "RETENTION_DAYS" in finding.text]
    assert "kept for 2.5 days" in problem.text
    assert "still there: 2 of events" in problem.text
    assert "ttlMonitorEnabled" in (problem.remedy or "")
    assert any(finding.text.startswith("events: 5 documents, ") for finding in findings)


async def test_sizes_and_the_retention_are_told_where_all_is_well(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    findings = [
        finding async for finding in examine(settings(mongodb_uri, database_name, tmp_path), fix=False)
    ]
    texts = [finding.text for finding in findings if finding.remedy is None]
    assert [
        text for text in texts if " documents, 0 bytes of data, " in text and text.endswith(" of indexes")
    ]
    assert any("nothing expired waits to be removed" in text for text in texts)
