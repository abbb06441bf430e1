"""Load: clients that submit, submit again, cancel, read along and retry; what they were promised is kept."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from agent_service.client import AgentClient, RequestResult
from agent_service.domain.errors import (
    BaseServiceUnavailable,
    RequestAlreadyEnded,
)
from tests.faults.soak.plans import RequestPlan, plan_request
from tests.faults.soak.reader import read_to_the_end
from tests.faults.soak.stage import Stage
from tests.faults.support.history import Reading

T = TypeVar("T")

#: A client asks again for so long before it gives up, in seconds.
_PATIENCE = 90.0
#: So many clients at once, at most; then the next has to wait.
_MOST_CLIENTS = 600


class Load:
    """Begins `rate` requests a second, each with a client of its own that sees it through."""

    def __init__(self, stage: Stage, *, seed: int, rate: float) -> None:
        self._stage = stage
        self._seed = seed
        self.rate = rate
        self._chance = random.Random(f"load {seed}")
        self._number = 0
        self._clients: set[asyncio.Task[None]] = set()
        #: What happened to clients, by name.
        self.tally: Counter[str] = Counter()
        #: What no client should ever meet.
        self.surprises: list[str] = []
        self.readings: list[Reading] = []

    async def run(self, over: asyncio.Event) -> None:
        """Begin requests until it is over."""
        while True:
            await asyncio.sleep(self._chance.expovariate(self.rate))
            if over.is_set():
                return
            if len(self._clients) < _MOST_CLIENTS:
                self._number += 1
                plan = plan_request(self._seed, self._number)
                self._begin(self._see_through(plan, f"{self._seed}-{self._number}"))
            else:
                self.tally["held back"] += 1

    async def finish(self, limit: timedelta) -> None:
        """Wait for all clients; who has not seen an end by then is a surprise."""
        if self._clients:
            _, pending = await asyncio.wait(set(self._clients), timeout=limit.total_seconds())
            for client in pending:
                self.surprises.append(f"{client.get_name()} still waits after {limit}")
                client.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def cancel(self) -> None:
        """End all clients now."""
        for client in self._clients:
            client.cancel()

    @property
    def waiting(self) -> int:
        """How many clients there are now."""
        return len(self._clients)

    def _begin(self, story: Awaitable[None]) -> None:
        async def told() -> None:
            try:
                await story
            except Exception as error:  # noqa: BLE001 - told in the report, which fails the run
                name = getattr(asyncio.current_task(), "get_name", str)()
                self.surprises.append(f"{name}: {type(error).__name__}: {error}")

        client = asyncio.create_task(told(), name=f"client {self._number}")
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _see_through(self, plan: RequestPlan, key: str) -> None:
        request_id = await self._submit(lambda api: api.submit(plan.body, idempotency_key=key), key)
        if request_id is None:
            return
        client = asyncio.current_task()
        if client is not None:
            client.set_name(f"client of {request_id}")
        if plan.followed:
            self._begin(self._read(request_id, plan.hangs_up_after))
        for _ in range(plan.submissions - 1):
            self.tally["replayed"] += 1
            again = await self._submit(lambda api: api.submit(plan.body, idempotency_key=key), key)
            if again not in (None, request_id):
                self.surprises.append(f"the key of {request_id} gave {again}")
        if plan.cancel_after is not None:
            await asyncio.sleep(plan.cancel_after)
            await self._cancel(request_id)
        if plan.retried:
            await self._retry_if_failed(request_id, key, plan)

    async def _submit(self, send: Callable[[AgentClient], Awaitable[RequestResult]], key: str) -> str | None:
        """Submit until it is acknowledged; None if that takes too long."""
        self.tally["submitted"] += 1
        taken = await self._insist(send)
        if taken is None:
            self.tally["not acknowledged"] += 1
            return None
        request_id = taken.id
        self.tally["acknowledged"] += 1
        self._stage.fleet.acknowledged[request_id] = key
        return request_id

    async def _cancel(self, request_id: str) -> None:
        try:
            if await self._insist(lambda api: api.cancel(request_id)) is not None:
                self.tally["cancelled"] += 1
        except RequestAlreadyEnded:
            self.tally["cancelled too late"] += 1

    async def _retry_if_failed(self, request_id: str, key: str, plan: RequestPlan) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(1, 2))
            request = await self._insist(lambda api: api.get(request_id))
            if request is None or request.ended:
                break
        if request is not None and request.status == "failed":
            self.tally["retried"] += 1
            await self._submit(
                lambda api: api.retry(
                    request_id, from_step=plan.retried_from, idempotency_key=f"{key}-again"
                ),
                f"{key}-again",
            )

    async def _read(self, request_id: str, hangs_up_after: int | None) -> None:
        self.tally["readers"] += 1
        reading, reconnected = await read_to_the_end(
            lambda: self._stage.any_client(self._chance), request_id, hangs_up_after=hangs_up_after
        )
        self.tally["reader came back"] += reconnected
        self.readings.append(reading)

    async def _insist(self, send: Callable[[AgentClient], Awaitable[T]]) -> T | None:
        """Ask one API after the other until one answers; None if that takes too long."""
        ends = time.monotonic() + _PATIENCE
        pause = 0.1
        while time.monotonic() < ends:
            try:
                return await send(self._stage.any_client(self._chance))
            except BaseServiceUnavailable as error:
                self.tally["asked again: " + error.code] += 1
                await asyncio.sleep(pause * self._chance.uniform(0.5, 1))
                pause = min(2 * pause, 2.0)
        return None
