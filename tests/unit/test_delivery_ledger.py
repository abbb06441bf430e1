import asyncio
from pathlib import Path

import pytest

from agent_service.domain.json_value import JsonObject
from agent_service.local.delivery_ledger import Delivery, DeliveryLedger, KeyReused, digest_of


class Channel:
    """Counts deliveries; each waits for `open`, and fails while `broken`."""

    def __init__(self) -> None:
        self.count = 0
        self.broken = False
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def deliver(self) -> JsonObject:
        self.count += 1
        self.began.set()
        await self.open.wait()
        if self.broken:
            raise ConnectionError("no line")
        return {"number": self.count}


async def test_a_key_delivers_once_over_restarts(tmp_path: Path) -> None:
    channel = Channel()
    first = await DeliveryLedger(tmp_path).deliver_once("key", {"a": 1}, channel.deliver)
    again = await DeliveryLedger(tmp_path).deliver_once("key", {"a": 1}, channel.deliver)
    other = await DeliveryLedger(tmp_path).deliver_once("other", {"a": 1}, channel.deliver)
    assert first == Delivery(output={"number": 1}, replayed=False)
    assert again == Delivery(output={"number": 1}, replayed=True)
    assert other.output == {"number": 2}


async def test_duplicates_at_the_same_time_share_one_delivery(tmp_path: Path) -> None:
    channel, ledger = Channel(), DeliveryLedger(tmp_path)
    found = await asyncio.gather(*(ledger.deliver_once("key", 1, channel.deliver) for _ in range(50)))
    assert {delivery.output["number"] for delivery in found} == {1}
    assert [delivery.replayed for delivery in found].count(False) == 1


async def test_a_key_that_stands_for_something_else_is_refused(tmp_path: Path) -> None:
    channel, ledger = Channel(), DeliveryLedger(tmp_path)
    channel.open.clear()
    running = asyncio.create_task(ledger.deliver_once("key", 1, channel.deliver))
    await channel.began.wait()
    with pytest.raises(KeyReused):
        await ledger.deliver_once("key", 2, channel.deliver)
    channel.open.set()
    await running
    with pytest.raises(KeyReused):
        await ledger.deliver_once("key", 2, channel.deliver)
    assert channel.count == 1


async def test_a_failed_delivery_is_tried_again(tmp_path: Path) -> None:
    channel, ledger = Channel(), DeliveryLedger(tmp_path)
    channel.broken = True
    with pytest.raises(ConnectionError):
        await ledger.deliver_once("key", 1, channel.deliver)
    channel.broken = False
    assert (await ledger.deliver_once("key", 1, channel.deliver)).output == {"number": 2}


async def test_a_caller_who_gives_up_does_not_stop_the_delivery(tmp_path: Path) -> None:
    channel, ledger = Channel(), DeliveryLedger(tmp_path)
    channel.open.clear()
    caller = asyncio.create_task(ledger.deliver_once("key", 1, channel.deliver))
    await channel.began.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    channel.open.set()
    await ledger.finish()
    assert (await ledger.deliver_once("key", 1, channel.deliver)).replayed
    assert channel.count == 1


def test_a_key_of_any_characters_is_a_safe_name() -> None:
    assert digest_of("../../é\n").isalnum()
    assert digest_of("a") != digest_of("b")
