"""Tests of the base service of the benchmarks, at its protocol and over HTTP with the bare client."""

import asyncio
import json
from typing import cast

import pytest

from benchmarks.bare_client import BareClient
from benchmarks.stub_record import read_record
from benchmarks.stub_service import Record, StubConnection
from tests.support.waiting import until

pytestmark = pytest.mark.harness

BODY = json.dumps({"context_id": "r1.work", "input": {"text": "hello"}}).encode()
HEAD = b"POST /execute HTTP/1.1\r\nHost: stub\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.answers.append(data)


def connected(record: Record | None = None, *, delay: float = 0) -> tuple[StubConnection, Written]:
    connection, written = StubConnection(delay, record), Written()
    connection.connection_made(cast("asyncio.Transport", written))
    return connection, written


def output_of(answer: bytes) -> object:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("size", [1, 7, 60, 10_000])
async def test_calls_are_answered_however_they_are_cut(size: int) -> None:
    connection, written = connected()
    for number in (1, 2):
        call = HEAD + BODY
        for start in range(0, len(call), size):
            connection.data_received(call[start : start + size])
        await until(lambda number=number: len(written.answers) == number)
    assert [output_of(answer) for answer in written.answers] == [{"output": {"text": "done"}}] * 2


async def test_a_call_that_was_closed_before_its_answer_is_recorded_and_never_answered() -> None:
    record = Record()
    connection, written = connected(record, delay=60)
    connection.data_received(HEAD + BODY)
    connection.connection_lost(None)
    told = json.loads(record.hand_over())
    assert list(told["received"]) == list(told["closed"]) == ["r1.work"]
    assert told["received"]["r1.work"] <= told["closed"]["r1.work"]
    assert written.answers == []
    assert json.loads(record.hand_over()) == {"received": {}, "closed": {}}


async def test_a_connection_that_is_closed_after_its_answer_is_no_call_that_was_closed() -> None:
    record = Record()
    connection, written = connected(record)
    connection.data_received(HEAD + BODY)
    await until(lambda: bool(written.answers))
    connection.connection_lost(None)
    assert json.loads(record.hand_over())["closed"] == {}


async def test_the_bare_client_gets_the_answer_and_the_stub_tells_when_it_had_the_call() -> None:
    record = Record()
    server = await asyncio.get_running_loop().create_server(lambda: StubConnection(0, record), "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = BareClient(address, 2)
    try:
        assert (
            await asyncio.gather(*(client.call(f"r{number}") for number in range(4)))
            == [{"text": "done"}] * 4
        )
        async with read_record(address) as seen:
            await seen.wait_for_calls(["r0", "r3"])
            assert sorted(seen.received) == ["r0", "r1", "r2", "r3"]
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
