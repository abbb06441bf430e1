"""OpenWork: requests in every state there is, each for one thing that the other version has to go on with."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent_service.client import AgentClient
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.service_behaviours import fail, stream, too_many, twice
from tests.support.base_service_behaviours import hang

#: So long the service wants to be left alone after the call of `held`, in seconds.
HOLD_SECONDS = 3
#: Nobody of the version that is there first takes from this queue.
LATER = "later"
#: Each has a step that is called like it.
SUBMISSIONS: Mapping[str, dict[str, Any]] = {
    "ended": {"callback": {"url": "https://receiver.invalid/ended"}, "metadata": {"team": "one"}},
    "broken": {},
    "dropped": {"queue": LATER},
    "flaky": {},
    # These run until somebody lets them.
    "long": {"dependent": "after_long", "variables": {"word": "hello"}},
    "cut": {"dependent": "after_cut"},
    "stopped": {},
    # Scheduled, and then pending.
    "held": {},
    "waiting": {"queue": LATER, "callback": {"url": "https://receiver.invalid/waiting"}},
    "unwanted": {"queue": LATER},
}
#: What the version that comes beside submits while only the first one works.
YOUNGER: Mapping[str, dict[str, Any]] = {
    "younger": {"dependent": "after_younger"},
    "never": {"queue": LATER},
}
#: What must have become of them in the end; `retried` is `broken` once more.
STATUSES = {
    **dict.fromkeys(("ended", "flaky", "long", "cut", "held", "waiting", "younger", "retried"), "completed"),
    **dict.fromkeys(("dropped", "stopped", "unwanted", "never"), "cancelled"),
    "broken": "failed",
}
#: How often each step is called; those that fail once or are cut off, and `broken` with its retry, twice.
CALLS = {
    **dict.fromkeys(("ended", "long", "after_long", "after_cut", "stopped", "waiting"), 1),
    **dict.fromkeys(("younger", "after_younger"), 1),
    **dict.fromkeys(("flaky", "cut", "held", "broken"), 2),
}


def submission(name: str, *, queue: str = "default", dependent: str = "", **fields: Any) -> dict[str, Any]:
    """A request with a step of this name, and one that waits for it if that is named."""
    step = {"name": name, "service": "generation", "queue": queue}
    steps: list[dict[str, Any]] = [{**step, "input": {"say": "hello"}}]
    if dependent:
        given = {"input": f"{{{{ steps.{name}.output }}}}", "after": [name]}
        steps.append({**step, **given, "name": dependent})
    return {"steps": steps, **fields}


class OpenWork:
    """The requests by their names; `go_on` lets `long` end."""

    def __init__(self, service: RecordingService) -> None:
        self.service = service
        self.go_on = asyncio.Event()
        self.ids: dict[str, str] = {}
        service.program(fail(422), step="broken", times=1)
        service.program(fail(503), step="flaky", attempt=1)
        service.program(twice("piece", between=self.go_on), step="long")
        service.program(stream("lost", then=hang()), step="cut", attempt=1)
        service.program(hang(), step="stopped")
        service.program(too_many(HOLD_SECONDS), step="held", attempt=1)

    async def submit(self, client: AgentClient, *names: str) -> None:
        """Submit these, each with its name as the idempotency key."""
        for name in names:
            body = submission(name, **{**SUBMISSIONS, **YOUNGER}[name])
            self.ids[name] = (await client.submit(body, idempotency_key=name)).id

    async def begin(self, client: AgentClient) -> None:
        """Submit what the first version has, and wait until the service has been called."""
        await self.submit(client, "ended", "broken", "dropped", "flaky")
        await client.cancel(self.ids["dropped"])
        for name in ("ended", "broken", "flaky"):
            await client.wait(self.ids[name])
        running = ("long", "cut", "stopped")
        await self.submit(client, *running)
        for name in running:
            await self.service.wait_for_calls(1, step=name)
        # The service is held from its call on.
        await self.submit(client, "waiting", "unwanted", "held")
