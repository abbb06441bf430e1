"""The commands about base services; they speak to MongoDB, so that they work while nothing else does."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_store import open_store
from agent_service.cli.printing import show_time
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.service_state import BREAKER, RETRY_AFTER, Hold, ServiceState, breaker_at, holds_of
from agent_service.settings import Settings, load_settings
from agent_service.store import Store

services = App(name="services", help="Look at the base services, and hold them.")

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
#: A worker that was seen within this time makes its service known.
_RECENT = timedelta(days=1)
_LONGEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    state: ServiceState
    waiting: int


@services.command(name="list")
def list_services(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """
    Print for each service whether it is called, what holds it and until when, and how much work waits.

    Parameters
    ----------
    as_json
        Print a JSON array instead.
    """
    return asyncio.run(_list(as_json=as_json))


@services.command
def pause(
    service: str,
    *,
    name: str = "paused",
    reason: str = "paused by an operator",
    seconds: Annotated[float | None, Parameter(name="--for")] = None,
) -> int:
    """
    Have no worker call a service, from now on; what waits for it loses nothing.

    Parameters
    ----------
    service
        The service to hold.
    name
        The hold's name; holds of several names are independent of each other.
    reason
        What `list` says of it.
    seconds
        End the hold by itself after so many seconds; without it, it ends with `resume`.
    """
    if not _NAME.fullmatch(name) or name in (RETRY_AFTER, BREAKER):
        raise ConfigurationError(
            f"a hold cannot be named {name!r}: use lower case letters, digits, _ and -, a letter first,"
            f" and neither {RETRY_AFTER} nor {BREAKER}"
        )
    if seconds is not None and not 0 < seconds <= _LONGEST.total_seconds():
        raise ConfigurationError(f"--for takes seconds above 0 and below ten years, not {seconds:g}")
    return asyncio.run(_pause(service, name=name, reason=reason, seconds=seconds))


@services.command
def resume(service: str, *, name: str = "paused") -> int:
    """
    Lift a hold; the service is called again once nothing else holds it.

    Parameters
    ----------
    service
        The service that is held.
    name
        The hold's name, as `list` prints it.
    """
    if name == BREAKER:
        raise ConfigurationError("the breaker closes by itself as soon as the service answers again")
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"no hold is ever named {name!r}")
    return asyncio.run(_resume(service, name=name))


async def _list(*, as_json: bool) -> int:
    settings = load_settings()
    async with _connected(settings) as store:
        states = {state.service: state for state in await store.services.all()}
        names = sorted(states.keys() | await _known_services(settings, store))
        rows = [
            _Row(state=states.get(name, ServiceState(service=name)), waiting=await store.services.depth(name))
            for name in names
        ]
        now = store.clock.now()
    if as_json:
        print(json.dumps([_document(row, now) for row in rows], indent=2, ensure_ascii=False))
    else:
        print("\n".join(line for row in rows for line in _lines(row, now)))
    return ExitCode.DONE


async def _pause(service: str, *, name: str, reason: str, seconds: float | None) -> int:
    settings = load_settings()
    async with _connected(settings) as store:
        if not await _is_known(service, settings, store):
            return _not_known(service)
        now = store.clock.now()
        until = None if seconds is None else now + timedelta(seconds=seconds)
        stored = " ".join(reason.encode(errors="replace").decode().split())
        state = await store.services.hold(service, Hold(name=name, reason=stored, since=now, until=until))
        _say_holds(state, now)
    return ExitCode.DONE


async def _resume(service: str, *, name: str) -> int:
    settings = load_settings()
    async with _connected(settings) as store:
        if not await _is_known(service, settings, store):
            return _not_known(service)
        if not await store.services.lift(service, name):
            print(f"{service} has no hold named {name}", file=sys.stderr)
        _say_holds(await store.services.read(service), store.clock.now())
    return ExitCode.DONE


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Store]:
    """The store that the workers use, with the server's time."""
    async with open_store(settings) as store:
        await store.measure_clock()
        yield store


async def _known_services(settings: Settings, store: Store) -> set[str]:
    signs = await store.workers.seen_since(store.clock.now() - _RECENT)
    return set(settings.services) | {sign.service for sign in signs}


async def _is_known(service: str, settings: Settings, store: Store) -> bool:
    """Whether anybody has heard of the service: the settings, a worker, the store, or waiting work."""
    if service in await _known_services(settings, store) or await store.services.depth(service):
        return True
    return any(state.service == service for state in await store.services.all())


def _not_known(service: str) -> int:
    print(f"agent-service: no service {service!r}; see `agent-service services list`", file=sys.stderr)
    return ExitCode.NOT_FOUND


def _say_holds(state: ServiceState, now: datetime) -> None:
    held = holds_of(state, now)
    print(f"{state.service}: {_summary(held)}", file=sys.stderr)


def _lines(row: _Row, now: datetime) -> list[str]:
    state, held = row.state, holds_of(row.state, now)
    breaker = breaker_at(state, now)
    first = f"{state.service}: {_summary(held)}; breaker {breaker.state.value}, epoch {state.epoch}"
    return [f"{first}; {row.waiting} waiting", *(f"    {_described(hold)}" for hold in held)]


def _summary(held: Sequence[Hold]) -> str:
    return "held by " + ", ".join(hold.name for hold in held) if held else "nothing holds it"


def _described(hold: Hold) -> str:
    until = "until it is lifted" if hold.until is None else f"until {show_time(hold.until)}"
    return f"{hold.name} since {show_time(hold.since)} {until}: {hold.reason}"


def _document(row: _Row, now: datetime) -> dict[str, Any]:
    state = row.state
    breaker = breaker_at(state, now)
    return {
        "service": state.service,
        "epoch": state.epoch,
        "waiting": row.waiting,
        "breaker": {
            "state": breaker.state.value,
            "until": None if breaker.until is None else show_time(breaker.until),
            "opened": breaker.opened,
            "reason": breaker.reason,
        },
        "holds": [
            {
                "name": hold.name,
                "reason": hold.reason,
                "since": show_time(hold.since),
                "until": None if hold.until is None else show_time(hold.until),
            }
            for hold in holds_of(state, now)
        ],
    }
