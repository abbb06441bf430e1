"""Waiting for the end of a request: by a call that the API holds back, else by following the events."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from time import monotonic

import httpx2

from agent_service.client.answers import read_object
from agent_service.client.connection import Connection, path_of
from agent_service.client.following import follow
from agent_service.client.results import RequestResult
from agent_service.domain.errors import StillRunning

#: How long the API is asked to hold its answer back (RFC 7240); proxies give up on longer silence.
PREFERRED_WAIT = timedelta(seconds=20)
#: An answer to wait for that comes sooner, and of no end, is from a server that stops: leave it some time.
_EARLY = timedelta(seconds=1)


async def wait_until_ended(
    connection: Connection, request_id: str, *, limit: timedelta | None, patience: timedelta
) -> RequestResult:
    """
    The request once it has ended; gives up when the API has not answered for as long as the patience.

    Raises `StillRunning` when `limit` is over.
    """
    timer = asyncio.timeout(None if limit is None else limit.total_seconds())
    try:
        async with timer:
            return await _wait(connection, request_id, patience)
    except TimeoutError as late:
        if limit is None or not timer.expired():
            raise
        detail = f"the request {request_id} has not ended within {limit.total_seconds():g} s; it goes on"
        raise StillRunning(detail) from late


async def _wait(connection: Connection, request_id: str, patience: timedelta) -> RequestResult:
    while True:
        asked_at = monotonic()
        answer = await _ask(connection, request_id, patience, wait=PREFERRED_WAIT)
        request = RequestResult.read(read_object(answer))
        if request.ended:
            return request
        if not answer.headers.get("Preference-Applied", "").strip().lower().startswith("wait"):
            break
        early = _EARLY.total_seconds() - (monotonic() - asked_at)
        await asyncio.sleep(max(early, 0))
    async with aclosing(follow(connection, request_id, after=None, patience=patience)) as events:
        async for _ in events:
            continue
    return RequestResult.read(read_object(await _ask(connection, request_id, patience)))


async def _ask(
    connection: Connection, request_id: str, patience: timedelta, *, wait: timedelta = timedelta(0)
) -> httpx2.Response:
    headers = {"Prefer": f"wait={round(wait.total_seconds())}"} if wait else {}
    return await connection.call(
        "GET", path_of(request_id), headers=headers, request_id=request_id, patience=patience, held_back=wait
    )
