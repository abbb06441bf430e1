"""Watching a request as it runs, as text for people or as lines of JSON; Ctrl-C loses nothing."""

import asyncio
import shlex
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, TextIO

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.printing import print_line, prints_for_people
from agent_service.client import AgentClient, RequestEvent, RequestResult
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.events import EventType


class Watch:
    """Who is watching which request, and how far it has come."""

    def __init__(self) -> None:
        self._request_id: str | None = None
        self._cursor: str | None = None

    async def follow(
        self, client: AgentClient, request_id: str, *, after: str | None = None, as_json: bool
    ) -> None:
        """Print what happens to a request until it has ended."""
        self._request_id, self._cursor = request_id, after
        narrator = Narrator(sys.stdout, sys.stderr) if prints_for_people(as_json=as_json) else None
        async with aclosing(client.stream(request_id, after=after)) as events:
            async for event in events:
                if narrator is None:
                    print_line({"id": event.id, **event.raw})
                else:
                    narrator.tell(event)
                self._cursor = event.id
        self._request_id = None

    async def wait(self, client: AgentClient, request_id: str) -> RequestResult:
        """The request once it has ended."""
        self._request_id = request_id
        ended = await client.wait(request_id)
        self._request_id = None
        return ended

    def tell_how_to_go_on(self) -> None:
        """Say on stderr by which command the rest can be seen, if there is a rest."""
        if self._request_id is not None:
            after = "" if self._cursor is None else f" --after {shlex.quote(self._cursor)}"
            command = f"agent-service requests events {shlex.quote(self._request_id)}{after}"
            print(f"\nthe request goes on; see the rest with\n  {command}", file=sys.stderr)


def run_watching(command: Callable[[Watch], Coroutine[Any, Any, ExitCode]]) -> ExitCode:
    """Run a command that watches; says how to go on when it is interrupted, or the API is gone for long."""
    watch = Watch()
    try:
        return asyncio.run(command(watch))
    except KeyboardInterrupt:
        watch.tell_how_to_go_on()
        return ExitCode.INTERRUPTED
    except BaseServiceUnavailable:
        watch.tell_how_to_go_on()
        raise


class Narrator:
    """Writes the text of the steps as it comes to `out`, and what else happens, line by line, to `talk`."""

    def __init__(self, out: TextIO, talk: TextIO) -> None:
        self._out = out
        self._talk = talk
        #: The step whose text the line on `out` belongs to; None at the beginning of a line.
        self._writing: str | None = None
        #: The steps that have shown text in their latest attempt.
        self._shown: set[str] = set()

    def tell(self, event: RequestEvent) -> None:
        """Write what the event says."""
        if event.type == EventType.OUTPUT_DELTA and event.step and event.delta:
            self._write(event.step, event.delta)
        else:
            self._say(self._line(event))

    def _write(self, step: str, text: str) -> None:
        if self._writing not in (None, step):
            self._say(f"{step} goes on")
        self._out.write(text)
        self._out.flush()
        self._writing = step
        self._shown.add(step)

    def _say(self, line: str) -> None:
        if self._writing is not None:
            self._out.write("\n")
            self._out.flush()
            self._writing = None
        self._talk.write(f"{line}\n")
        self._talk.flush()

    def _line(self, event: RequestEvent) -> str:
        noun, _, state = event.type.partition(".")
        line = f"{event.step or noun} {state}"
        if event.error is not None:
            line += f": {event.error.code}: {event.error.message}"
        if event.type == EventType.STEP_RUNNING and event.step in self._shown:
            self._shown.discard(event.step)
            line += " again; its text so far does not count"
        return line
