import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent_service.domain.errors import StoreUnavailable
from agent_service.local.mongod import EmbeddedMongod, start_mongod
from agent_service.store.replica_set import initiate_single_node

LIMIT = timedelta(seconds=10)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedMongod]:
    running = await start_mongod(tmp_path)
    yield running
    await running.stop()


async def test_a_server_that_is_a_replica_set_already_is_left_as_it_is(server: EmbeddedMongod) -> None:
    direct, host = f"mongodb://127.0.0.1:{server.port}/", f"127.0.0.1:{server.port}"
    await asyncio.gather(*(initiate_single_node(direct, host, limit=LIMIT) for _ in range(3)))


async def test_a_server_that_does_not_answer_is_reported_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="could not be made a replica set"):
            await initiate_single_node(f"mongodb://{host}/", host, limit=timedelta(milliseconds=200))
