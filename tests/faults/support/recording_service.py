"""
RecordingService: a base service (protocol `execute`) that remembers every call and behaves as it is told.

    async with RecordingService(folder / "calls.jsonl") as service:
        service.program(fail(503), step="draft", attempt=1)
        service.program(stream("a", "b"), step="draft")
        ...                         # GENERATION_BASE_URL=service.url("generation")
        service.calls               # for the checker

It runs in the event loop of the test. One of it serves all kinds of services, each under its own path. What
it does depends on what it is asked and on nothing else: no random times, no rates.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

from agent_service.testing.behaviours import echo
from agent_service.testing.calls import Behaviour, RecordedCall, Reply
from agent_service.testing.script import Script, Selector
from tests.faults.support.history import Call
from tests.support.base_service_stub import BaseServiceStub
from tests.support.waiting import until

__all__ = ["RecordingService", "echo"]


@dataclass(slots=True)
class _Arrived:
    """One call, from its arrival to its end."""

    service: str
    step: str
    context_id: str
    attempt: int
    key: str
    in_flight: int
    started: float
    started_monotonic: float
    ended: float | None = None
    end: Literal["answered", "closed", "open"] = "open"

    def call(self) -> Call:
        return Call(
            context_id=self.context_id,
            attempt=self.attempt,
            key=self.key,
            started=self.started,
            ended=self.ended,
            end=self.end,
            in_flight=self.in_flight,
            service=self.service,
        )


class RecordingService:
    """Remembers calls in memory (`calls`) and, one line for each start and each end, in the file `log`."""

    def __init__(self, log: Path | None = None) -> None:
        self._log_path = log
        self._log: IO[str] | None = None
        self._stub = BaseServiceStub()
        self._stub.behave(self._serve)
        self._script = Script(echo)
        self._arrived: list[_Arrived] = []
        self._in_flight: dict[str, int] = {}
        #: Calls in flight at the same time, at most, by service.
        self.most_in_flight: dict[str, int] = {}

    @property
    def calls(self) -> list[Call]:
        """Every call so far, in the order in which they arrived."""
        return [arrived.call() for arrived in self._arrived]

    @property
    def count(self) -> int:
        """How many calls have arrived."""
        return len(self._arrived)

    @property
    def in_flight(self) -> int:
        """How many calls are being answered now."""
        return sum(self._in_flight.values())

    @property
    def port(self) -> int:
        """For a gate in front of it."""
        return self._stub.port

    def url(self, service: str, *, port: int | None = None) -> str:
        """The base URL of a kind of service; `port` is that of a gate in front of it."""
        return f"http://127.0.0.1:{port or self._stub.port}/{service}"

    def program(
        self,
        behaviour: Behaviour,
        *,
        service: str | None = None,
        step: str | None = None,
        context: str | None = None,
        attempt: int | None = None,
        times: int | None = None,
    ) -> None:
        """Behave so for the calls that fit; where several rules fit, the one that was made last counts."""
        selector = Selector(service=service, step=step, context_id=context, attempt=attempt)
        self._script.add(behaviour, selector=selector, times=times)

    def forget(self) -> None:
        """Drop all rules and all records of calls that have ended: a new scenario begins."""
        self._script.clear()
        self._arrived = [arrived for arrived in self._arrived if arrived.end == "open"]
        self.most_in_flight.clear()

    async def stop_listening(self) -> None:
        """Die: connections are closed, and new ones are refused."""
        await self._stub.__aexit__()

    async def listen_again(self) -> None:
        """Come back on the same port."""
        await self._stub.__aenter__()

    async def wait_for_calls(
        self, count: int = 1, *, step: str | None = None, attempt: int | None = None, seconds: float = 60
    ) -> list[Call]:
        """Wait until so many calls that fit have arrived; returns them."""

        def fitting() -> list[Call] | None:
            found = [
                arrived.call()
                for arrived in self._arrived
                if step in (None, arrived.step) and attempt in (None, arrived.attempt)
            ]
            return found if len(found) >= count else None

        return await until(fitting, seconds=seconds)

    async def wait_until_idle(self) -> None:
        """Until no call is in flight any more."""
        await until(lambda: self.in_flight == 0, seconds=60)

    async def __aenter__(self) -> Self:
        if self._log_path is not None:
            self._log = self._log_path.open("a", encoding="utf-8")
        await self._stub.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stub.__aexit__()
        if self._log is not None:
            self._log.close()

    async def _serve(self, call: RecordedCall, reply: Reply) -> None:
        arrived = self._arrive(call)
        behaving = asyncio.ensure_future(self._behave(call, reply))
        closed = asyncio.ensure_future(call.closed.wait())
        try:
            await asyncio.wait({behaving, closed}, return_when=asyncio.FIRST_COMPLETED)
            answered = behaving.done() and behaving.result()
            self._end(arrived, "answered" if answered else "closed")
            reply.keep_alive = reply.keep_alive and answered
        finally:
            if arrived.end == "open":
                self._end(arrived, "closed")
            for task in (behaving, closed):
                task.cancel()
            await asyncio.gather(behaving, closed, return_exceptions=True)
            # The stub keeps every call with its body; over an hour that would fill the memory.
            self._stub.calls.remove(call)

    async def _behave(self, call: RecordedCall, reply: Reply) -> bool:
        """Do what is programmed; says whether the caller was still there in the end."""
        try:
            await self._script.choose(call)(call, reply)
        except ConnectionError:
            return False
        return not call.closed.is_set()

    def _arrive(self, call: RecordedCall) -> _Arrived:
        asked = call.json()
        service = call.service
        in_flight = self._in_flight.get(service, 0) + 1
        self._in_flight[service] = in_flight
        self.most_in_flight[service] = max(self.most_in_flight.get(service, 0), in_flight)
        arrived = _Arrived(
            service=service,
            step=asked["step"],
            context_id=asked["context_id"],
            attempt=asked["attempt"],
            key=call.idempotency_key,
            in_flight=in_flight,
            started=time.time(),
            started_monotonic=time.monotonic(),
        )
        self._arrived.append(arrived)
        self._write({"event": "started", "monotonic": arrived.started_monotonic}, arrived)
        return arrived

    def _end(self, arrived: _Arrived, end: Literal["answered", "closed"]) -> None:
        self._in_flight[arrived.service] -= 1
        arrived.ended, arrived.end = time.time(), end
        self._write({"event": end, "monotonic": time.monotonic()}, arrived)

    def _write(self, fields: dict[str, Any], arrived: _Arrived) -> None:
        if self._log is None:
            return
        line = {
            **fields,
            "wall": arrived.ended or arrived.started,
            "service": arrived.service,
            "step": arrived.step,
            "context": arrived.context_id,
            "attempt": arrived.attempt,
            "key": arrived.key,
            "in_flight": self._in_flight[arrived.service],
        }
        # In one piece and at once: whoever reads it after a failure sees everything.
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
