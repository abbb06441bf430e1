"""Duplicates: one submission sent many times with one idempotency key, and all that was answered."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

from tests.faults.support.fleet import Fleet
from tests.faults.support.role_process import RoleProcess
from tests.support.waiting import until

_ANSWER_LIMIT = 30.0
#: Between two tries of one client, in seconds.
_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one submission was told; `id` and `location` where it was taken, `code` where it was not."""

    status: int
    id: str | None
    location: str | None
    code: str | None
    replayed: bool
    retry_after: str | None

    @classmethod
    def of(cls, answer: httpx2.Response) -> Self:
        """An answer as a client sees it."""
        body = answer.json()
        return cls(
            status=answer.status_code,
            id=body.get("id"),
            location=answer.headers.get("location"),
            code=body.get("code"),
            replayed=answer.headers.get("idempotency-replayed") == "true",
            retry_after=answer.headers.get("retry-after"),
        )

    @property
    def is_taken(self) -> bool:
        """Whether the submission was acknowledged."""
        return self.status == httpx2.codes.ACCEPTED


@dataclass(slots=True)
class Duplicates:
    """Sends to each of the APIs of a fleet; `answers` are all that came, by key."""

    fleet: Fleet
    apis: Sequence[RoleProcess]
    _client: httpx2.AsyncClient
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))

    async def send(self, body: Mapping[str, Any], key: str, api: RoleProcess) -> Answer | None:
        """Submit once; None if no answer came."""
        headers = {"Idempotency-Key": key}
        try:
            response = await self._client.post(f"{api.url}/v1/requests", json=body, headers=headers)
        except httpx2.TransportError:
            return None
        answer = Answer.of(response)
        self.answers[key].append(answer)
        if answer.is_taken and answer.id is not None:
            self.fleet.acknowledged[answer.id] = key
        return answer

    async def insist(self, body: Mapping[str, Any], key: str, api: RoleProcess) -> Answer:
        """Submit again and again, as told to, until it is taken or refused for good."""

        async def final() -> Answer | None:
            answer = await self.send(body, key, api)
            return None if answer is None or answer.status == httpx2.codes.SERVICE_UNAVAILABLE else answer

        return await until(final, seconds=60, every=_PAUSE)

    async def insist_everywhere(
        self, body: Mapping[str, Any], keys: Sequence[str], *, times: int
    ) -> list[Answer]:
        """For each key, so many clients at each API at the same moment, each until it has its answer."""
        insisting = (self.insist(body, key, api) for key in keys for _ in range(times) for api in self.apis)
        return list(await asyncio.gather(*insisting))


@asynccontextmanager
async def duplicates(fleet: Fleet, *apis: RoleProcess) -> AsyncIterator[Duplicates]:
    """A client that sends to these APIs within the block."""
    async with httpx2.AsyncClient(timeout=_ANSWER_LIMIT, trust_env=False) as client:
        yield Duplicates(fleet, apis, client)
