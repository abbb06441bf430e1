"""The readers of the benchmarks, over a real socket: they find every piece, however it is cut."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from benchmarks.reader_process import StreamReader
from benchmarks.streaming_service import application, piece_now

pytestmark = pytest.mark.harness


def frame(piece: str) -> bytes:
    return b'id: @0\nevent: output.delta\ndata: {"type":"output.delta","delta":"%b"}\n\n' % piece.encode()


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_pieces_are_found_however_they_are_cut(size: int) -> None:
    delays: list[float] = []
    reader = StreamReader("r", delays)
    sent = b"retry: 3000\n\nevent: request.accepted\ndata: {}\n\n"
    sent += frame(piece_now()) + frame(piece_now() + piece_now())
    sent += b"event: request.completed\ndata: {}\n\n"
    for place in range(0, len(sent), size):
        reader.data_received(sent[place : place + size])
    assert reader.began.done()
    assert reader.ended.result()
    assert (reader.pieces, len(delays)) == (3, 3)
    assert all(0 <= delay < 60 for delay in delays)


async def test_a_stream_that_breaks_is_not_whole() -> None:
    reader = StreamReader("r", [])
    reader.connection_lost(None)
    assert not reader.ended.result()


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    runner = web.AppRunner(application(pieces=5, every=0.01))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_base_service_says_in_each_piece_when_it_was_sent(base_url: str) -> None:
    async with ClientSession() as session, session.post(f"{base_url}/execute", json={}) as answer:
        async with asyncio.timeout(30):
            lines = (await answer.text()).split("\n\n")
    assert lines[5:] == ['data: {"output": "done"}', ""]
    times = [float(line.split('"')[3]) for line in lines[:5]]
    assert times == sorted(times)
    assert times[-1] <= time.monotonic()
