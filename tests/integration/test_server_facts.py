"""What a server says of itself."""

from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store.server_facts import confirm_majority, read_server_facts


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_replica_set_says_its_version_its_name_and_its_time(driver: str, mongodb_uri: str) -> None:
    facts = await read_server_facts(mongodb_uri, driver=driver)
    assert facts.version >= (6, 0)
    assert facts.topology == "replica set rs0"
    assert abs(facts.clock_ahead) < timedelta(seconds=1) + facts.round_trip


@pytest.mark.fresh_database
async def test_a_confirmed_write_leaves_nothing_behind(
    mongodb_uri: str, raw: AsyncDatabase[dict[str, Any]]
) -> None:
    await confirm_majority(mongodb_uri, database=raw.name)
    assert await raw.list_collection_names() == []
