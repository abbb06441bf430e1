"""kill -9 of everything, MongoDB included, at any moment: the next start finishes the request."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from agent_service.local.addresses import Addresses, find_addresses
from tests.support.base_service_behaviours import RecordedCall, Reply
from tests.support.base_service_stub import BaseServiceStub
from tests.support.waiting import until

pytestmark = pytest.mark.exhaustive

STEPS: tuple[tuple[str, str, list[str]], ...] = (
    ("draft", "generation", []),
    ("check", "analysis", ["draft"]),
    ("notify", "communication", ["check"]),
)
BODY = {
    "steps": [
        {
            "name": name,
            "service": service,
            "input": {"said": f"{{{{ steps.{after[0]}.output.step }}}}" if after else "start"},
            "after": after,
        }
        for name, service, after in STEPS
    ]
}
#: Three steps of two slow pieces each, with a database in between, take about this long.
LONGEST_MOMENT = 0.8


async def slow_answer(call: RecordedCall, reply: Reply) -> None:
    """Stream two pieces slowly, then the answer."""
    asked = call.json()
    await reply.start(200, {"Content-Type": "text/event-stream"})
    for _ in range(2):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.07):
                await call.closed.wait()
        await reply.send(b'data: {"delta": "piece "}\n\n')
    await reply.send(b'data: {"output": {"step": "%s"}}\n\n' % asked["step"].encode())
    await reply.finish()


class Life:
    """One `agent-service dev` on a data folder, from its start to its violent end."""

    def __init__(self, folder: Path, stub: BaseServiceStub) -> None:
        self._folder = folder
        self._environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.endswith("_URI")},
            "AGENT_SERVICE_DATA": str(folder),
            "API_PORT": "0",
            **{
                f"{service.upper()}_{name}": value
                for _, service, _ in STEPS
                for name, value in {"BASE_URL": stub.url, "LEASE_SECONDS": "1", "PROTOCOL": "execute"}.items()
            },
        }

    async def start(self) -> Addresses:
        with (self._folder / "dev.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent_service", "dev", env=self._environment, stdout=log, stderr=log
            )
        return await until(self._addresses, seconds=60)

    def _addresses(self) -> Addresses | None:
        assert self.process.returncode is None, (self._folder / "dev.log").read_text()[-4000:]
        return find_addresses(self._folder)

    def kill(self) -> None:
        """SIGKILL; the kernel passes it on to mongod, which gets no chance to write anything either."""
        if self.process.returncode is None:
            self.process.kill()

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), 60) == 0


async def submit(addresses: Addresses, key: str) -> str | None:
    """The id of the request; None if the answer did not come."""
    try:
        async with httpx2.AsyncClient(base_url=addresses.api_url) as client:
            answer = await client.post("/v1/requests", json=BODY, headers={"Idempotency-Key": key})
    except httpx2.TransportError:
        return None
    return str(answer.json()["id"]) if answer.status_code == 202 else None


async def finished(addresses: Addresses, request_id: str) -> dict[str, object]:
    async with httpx2.AsyncClient(base_url=addresses.api_url) as client:

        async def ended() -> dict[str, object] | None:
            found = (await client.get(f"/v1/requests/{request_id}")).json()
            return found if found["status"] in ("completed", "failed", "cancelled") else None

        return await until(ended, seconds=60)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_ten_lives_that_end_at_random_moments_lose_nothing(tmp_path: Path, seed: int) -> None:
    moments = random.Random(seed)
    async with BaseServiceStub() as stub:
        stub.behave(slow_answer)
        life = Life(tmp_path, stub)
        addresses = await life.start()
        for number in range(10):
            moment = moments.uniform(0, LONGEST_MOMENT)
            key = f"{seed}-{number}"
            asyncio.get_running_loop().call_later(moment, life.kill)
            acknowledged = await submit(addresses, key)
            await life.process.wait()
            addresses = await life.start()
            request_id = await submit(addresses, key)
            assert acknowledged in (None, request_id), "one key made two requests"
            assert request_id is not None
            request = await finished(addresses, request_id)
            assert request["status"] == "completed", (number, moment, request)
            calls = [call.json() for call in stub.calls if call.json()["request_id"] == request_id]
            assert [c["input"]["said"] for c in calls if c["step"] == "check"][-1] == "draft"
            for step, _, _ in STEPS:
                attempts = [call["attempt"] for call in calls if call["step"] == step]
                assert attempts == sorted(set(attempts)), "an attempt was called twice"
                assert 1 <= len(attempts) <= 2
        await life.stop()
