"""
What a recording service can be told to do, besides what `tests.support.base_service_behaviours` has; those
of `agent_service.testing` that the scenarios use most can be had from here too.

There: `answer(value, status=…, headers=…)`, `events(…)`, `delayed(until=Event, then=…)`, `hang()`, `cut()`,
`cut_body(…)`, `trickle(…)`, `redirect(…)`, `huge(…)`, `gzip_bomb(…)`.
"""

import asyncio
from datetime import timedelta

from agent_service.testing.behaviours import after, fail, stream
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer, events, trickle

__all__ = ["after", "drip", "fail", "reset", "stream", "too_many", "twice"]


def twice(text: str, *, between: asyncio.Event | None = None) -> Behaviour:
    """Streams the text two times, the second time once it may, and gives it as the output then."""

    async def wait(number: int) -> None:
        if number > 0 and between is not None:
            await between.wait()

    return events({"delta": text}, {"delta": text}, {"output": text}, before_each=wait)


def too_many(retry_after: str | int | None) -> Behaviour:
    """429, with this `Retry-After` (seconds or a date)."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return answer({"title": "Too many requests", "status": 429}, status=429, headers=headers)


def reset() -> Behaviour:
    """RST in the place of an answer."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        reply.reset()

    return behave


def drip(every: timedelta) -> Behaviour:
    """A stream that never ends: a tiny delta again and again, until the caller goes."""
    head = {"Content-Type": "text/event-stream"}
    return trickle(b'data: {"delta": "."}\n\n', every=every.total_seconds(), headers=head)
