"""The commands about callbacks that were not delivered; they speak to MongoDB itself."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

from cyclopts import App, Parameter

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.option_values import parse_moment
from agent_service.cli.printing import print_line, prints_for_people
from agent_service.cli.running_service import find_mongodb
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.json_value import JsonObject
from agent_service.redelivery import DeadCallbacks, PassedOver, Redelivery
from agent_service.redrive import DEFAULT_RATE
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.store.dead_callbacks import CallbackDelivery

callbacks = App(name="callbacks", help="List callbacks that were not delivered, and deliver them again.")

_ROW = "{id:<36}  {organization:<20}  {code:<20}  {attempts:>8}  {failed}"
_HEADING = _ROW.format(
    id="REQUEST", organization="ORGANIZATION", code="ERROR", attempts="ATTEMPTS", failed="FAILED"
)


@callbacks.command(name="list")
def list_callbacks(
    *,
    since: str | None = None,
    organization: str | None = None,
    limit: int = 20,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """
    Print callbacks that failed and are not tried again, latest first.

    That is a table on a terminal, else each as one line of JSON.

    Parameters
    ----------
    since
        Only what failed at this time or later: a date and time of ISO 8601, in UTC unless it says otherwise.
    organization
        Only those of requests of this organization.
    limit
        So many at most.
    as_json
        Print lines of JSON on a terminal, too.
    """
    wanted = DeadCallbacks(
        since=parse_moment("--since", since), organization_id=organization, limit=_checked_limit(limit)
    )
    return asyncio.run(_list(wanted, for_people=prints_for_people(as_json=as_json)))


@callbacks.command
def redeliver(
    *request_id: str,
    since: str | None = None,
    error_code: str | None = None,
    organization: str | None = None,
    limit: int | None = None,
    rate: float = DEFAULT_RATE,
    dry_run: bool = False,
) -> int:
    """
    Have failed callbacks delivered again, latest first, for another 24 hours and under the same `webhook-id`.

    Prints each as one line of JSON. Each failed delivery is followed by one, however often this is run; it
    can be stopped at any moment. Exit code 1 if something could not be redelivered.

    Parameters
    ----------
    request_id
        The callbacks of these requests, in place of all that the options name.
    since
        Only what failed at this time or later: a date and time of ISO 8601, in UTC unless it says otherwise.
    error_code
        Only what failed with this code: `deadline_exceeded` after 24 hours, `gone` after status 410.
    organization
        Only those of requests of this organization.
    limit
        Redeliver so many at most.
    rate
        Redeliver so many per second at most.
    dry_run
        Redeliver nothing; print how many it would be, and what they failed with.
    """
    if request_id and (since, error_code, organization, limit) != (None,) * 4:
        raise ConfigurationError(
            "give the ids of requests, or --since, --error-code, --organization and --limit, not both"
        )
    wanted = DeadCallbacks(
        request_ids=request_id,
        since=parse_moment("--since", since),
        error_code=error_code,
        organization_id=organization,
        limit=_checked_limit(limit),
    )
    return asyncio.run(_count(wanted) if dry_run else _redeliver(wanted, rate))


def _checked_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ConfigurationError(f"--limit must be 1 or more, not {limit}")
    return limit


async def _list(wanted: DeadCallbacks, *, for_people: bool) -> ExitCode:
    async with _redelivery() as work, aclosing(work.find(wanted)) as found:
        dead = [one async for one in found if isinstance(one, CallbackDelivery)]
    if not for_people:
        for delivery in dead:
            print_line(_document(delivery))
    elif dead:
        print(_HEADING)
        print("\n".join(map(_row, dead)))
    else:
        print("there is no such callback", file=sys.stderr)
    return ExitCode.DONE


async def _count(wanted: DeadCallbacks) -> ExitCode:
    async with _redelivery() as work:
        tally = await work.count(wanted)
    failures = [{"error_code": code, "callbacks": count} for code, count in sorted(tally.failures.items())]
    print(json.dumps({"callbacks": tally.callbacks, "failures": failures}, indent=2, ensure_ascii=False))
    for passed_over in tally.passed_over:
        _tell(passed_over)
    print("nothing was redelivered", file=sys.stderr)
    return ExitCode.DONE


async def _redeliver(wanted: DeadCallbacks, rate: float) -> ExitCode:
    redelivered = passed_over = 0
    async with _redelivery() as work, aclosing(work.run(wanted, rate=rate)) as results:
        async for result in results:
            if isinstance(result, PassedOver):
                passed_over += 1
                _tell(result)
            else:
                redelivered += 1
                print_line({"request_id": result.request_id, "delivery": result.number})
    print(f"{redelivered} redelivered, {passed_over} passed over", file=sys.stderr)
    return ExitCode.FAILED if passed_over else ExitCode.DONE


@asynccontextmanager
async def _redelivery() -> AsyncIterator[Redelivery]:
    settings = load_settings()
    mongodb = settings.mongodb
    uri = find_mongodb(settings)
    async with Store.connect(uri, database=mongodb.database, driver=mongodb.driver) as store:
        yield Redelivery(store)


def _tell(passed_over: PassedOver) -> None:
    print(f"request {passed_over.request_id} was passed over: {passed_over.problem}", file=sys.stderr)


def _row(delivery: CallbackDelivery) -> str:
    return _ROW.format(
        id=delivery.request_id,
        organization=delivery.organization_id,
        code=delivery.error_code,
        attempts=delivery.attempts,
        failed=_failed_at(delivery),
    )


def _document(delivery: CallbackDelivery) -> JsonObject:
    return {
        "request_id": delivery.request_id,
        "organization_id": delivery.organization_id,
        "error_code": delivery.error_code,
        "attempts": delivery.attempts,
        "failed_at": _failed_at(delivery),
        "delivery": delivery.number,
    }


def _failed_at(delivery: CallbackDelivery) -> str:
    return "" if delivery.finished_at is None else f"{delivery.finished_at:%Y-%m-%dT%H:%M:%SZ}"
