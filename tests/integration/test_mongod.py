import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.mongod import EmbeddedMongod, start_mongod


async def count_after_insert(server: EmbeddedMongod) -> int:
    async with AsyncMongoClient[dict[str, object]](server.uri, serverSelectionTimeoutMS=5000) as client:
        notes = client["notes"]["notes"]
        await notes.insert_one({"port": server.port})
        return await notes.count_documents({})


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_end(pid: int, *, seconds: float = 10) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([process], [], [], seconds)
    finally:
        os.close(process)
    assert ended, f"process {pid} still runs"


async def test_data_is_kept_when_the_server_comes_back_on_another_port(tmp_path: Path) -> None:
    first = await start_mongod(tmp_path)
    try:
        assert await count_after_insert(first) == 1
    finally:
        await first.stop()
    assert not is_alive(first.pid)

    second = await start_mongod(tmp_path, extra_arguments=["--setParameter", "enableTestCommands=1"])
    try:
        assert second.port != first.port
        assert await count_after_insert(second) == 2
        async with AsyncMongoClient[dict[str, object]](second.uri) as client:
            await client.admin.command("configureFailPoint", "failCommand", mode="off")
            stored = (await client.admin.command("replSetGetConfig"))["config"]
            assert [member["host"] for member in stored["members"]] == [f"127.0.0.1:{second.port}"]
    finally:
        await second.stop()


async def test_a_killed_server_recovers_what_was_acknowledged(tmp_path: Path) -> None:
    first = await start_mongod(tmp_path)
    assert await count_after_insert(first) == 1
    os.kill(first.pid, signal.SIGKILL)
    await first.stop()
    assert not first.is_running

    second = await start_mongod(tmp_path, port=first.port)
    try:
        assert second.port == first.port
        assert await count_after_insert(second) == 2
    finally:
        await second.stop()


async def test_a_folder_in_use_is_refused_and_its_owner_is_left_alone(tmp_path: Path) -> None:
    owner = await start_mongod(tmp_path)
    try:
        with pytest.raises(LocalPartUnavailable, match="in use by another mongod"):
            await start_mongod(tmp_path)
        assert await count_after_insert(owner) == 1
    finally:
        await owner.stop()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    owner = await start_mongod(tmp_path / "owner")
    try:
        with pytest.raises(LocalPartUnavailable, match=f"port {owner.port} is taken"):
            await start_mongod(tmp_path / "other", port=owner.port)
    finally:
        await owner.stop()


async def test_an_argument_that_mongod_refuses_is_shown(tmp_path: Path) -> None:
    with pytest.raises(LocalPartUnavailable, match="unrecognised option '--bogus'"):
        await start_mongod(tmp_path, extra_arguments=["--bogus"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed process")
def test_no_server_is_left_when_its_owner_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_service.local.mongod import start_mongod\n"
        "async def main():\n"
        "    server = await start_mongod(Path(sys.argv[1]))\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.kill()
    wait_for_end(pid)
