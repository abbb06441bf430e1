"""How requests are printed: as documents, and as a list, for people on a terminal and for programs."""

import json
import sys
from collections.abc import AsyncIterator
from datetime import datetime

from agent_service.client import RequestSummary
from agent_service.domain.json_value import JsonObject

_ROW = "{id:<36}  {status:<9}  {created:<20}  {took:>9}  {steps}"


def prints_for_people(*, as_json: bool) -> bool:
    """Whether the standard output is a terminal, and nobody asked for JSON."""
    return not as_json and sys.stdout.isatty()


def print_document(document: JsonObject) -> None:
    """Print an answer of the API for people and programs."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_line(document: JsonObject) -> None:
    """Print one line of JSON, at once."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


async def print_lines(requests: AsyncIterator[RequestSummary]) -> None:
    """Print each request as one line of JSON."""
    async for request in requests:
        print_line(request.raw)


async def print_table(requests: AsyncIterator[RequestSummary]) -> None:
    """Print requests as rows under a heading; no row at all is said on stderr."""
    empty = True
    async for request in requests:
        if empty:
            print(_ROW.format(id="ID", status="STATUS", created="CREATED", took="TOOK", steps="STEPS"))
        empty = False
        print(_row(request))
    if empty:
        print("there is no such request", file=sys.stderr)


def show_time(moment: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _row(request: RequestSummary) -> str:
    created, finished = request.created_at, request.finished_at
    took = f"{(finished - created).total_seconds():.2f} s" if created and finished else ""
    return _ROW.format(
        id=request.id,
        status=request.status,
        created=show_time(created) if created else "",
        took=took,
        steps=", ".join(step.name for step in request.steps),
    ).rstrip()
