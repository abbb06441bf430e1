"""What a server writes together is sent together."""

import asyncio
from typing import Any

from agent_service.local.lingering import MOST_GATHERED, LingeringProtocol, _Gathering


class Sent(asyncio.Transport):
    """A transport that remembers what it was told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.told.append([len(each) for each in list_of_data])

    def close(self) -> None:
        self.told.append("close")

    def is_closing(self) -> bool:
        return "close" in self.told


class Closer:
    """Stands in for the protocol."""

    def __init__(self, transport: Sent) -> None:
        self.loop = asyncio.get_running_loop()
        self._transport = transport

    def close_in_stages(self) -> None:
        self._transport.close()


def gathering() -> tuple[_Gathering, Sent]:
    sent = Sent()
    protocol: Any = Closer(sent)
    assert hasattr(LingeringProtocol, "close_in_stages")
    return _Gathering(sent, protocol), sent


async def test_what_is_written_in_one_turn_is_sent_in_one_piece() -> None:
    transport, sent = gathering()
    for piece in (b"head ", b"body", b""):
        transport.write(piece)
    assert sent.told == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert sent.told == [b"head body", b"next"]


async def test_nothing_that_was_written_is_lost_when_the_connection_is_closed() -> None:
    transport, sent = gathering()
    transport.write(b"answer")
    transport.close()
    transport.write(b"too late")
    await asyncio.sleep(0)
    assert sent.told == [b"answer", "close"]


async def test_what_is_large_is_sent_at_once_and_not_copied() -> None:
    transport, sent = gathering()
    transport.write(b"head")
    transport.write(b"x" * (MOST_GATHERED + 1))
    assert sent.told == [[4, MOST_GATHERED + 1]]
    await asyncio.sleep(0)
    assert len(sent.told) == 1


async def test_small_pieces_do_not_add_up_without_an_end() -> None:
    transport, sent = gathering()
    for _ in range(3):
        transport.write(b"x" * (MOST_GATHERED // 2 + 1))
    assert [len(piece) for piece in sent.told] == [2 * (MOST_GATHERED // 2 + 1)]
