"""The command that retries failed requests in bulk; it speaks to MongoDB itself."""

import asyncio
import json
import sys
from contextlib import aclosing

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_store import open_store
from agent_service.cli.option_values import parse_moment
from agent_service.domain.errors import ConfigurationError
from agent_service.redrive import DEFAULT_RATE, Redrive, Selection
from agent_service.request_service import RequestService
from agent_service.settings import load_settings


def redrive(
    *,
    service: str | None = None,
    error_code: str | None = None,
    step: str | None = None,
    since: str | None = None,
    until: str | None = None,
    organization: str | None = None,
    limit: int | None = None,
    rate: float = DEFAULT_RATE,
    dry_run: bool = False,
) -> int:
    """
    Retry failed requests, oldest first, each once however often this is run.

    Prints each retry as one line of JSON. It can be stopped at any moment and run again. Exit code 1 if
    something could not be retried.

    Parameters
    ----------
    service
        Only where a step of this service failed.
    error_code
        Only where a step failed with this code, such as `timeout`.
    step
        Only where the step of this name failed.
    since
        Only what ended at this time or later: a date and time of ISO 8601, in UTC unless it says otherwise.
    until
        Only what ended before this time.
    organization
        Only requests of this organization.
    limit
        Retry so many at most.
    rate
        Retry so many per second at most.
    dry_run
        Retry nothing; print how many requests it would be, and what failed in them.
    """
    selection = Selection(
        service=service,
        error_code=error_code,
        step=step,
        since=parse_moment("--since", since),
        until=parse_moment("--until", until),
        organization_id=organization,
        limit=limit,
    )
    if limit is not None and limit < 1:
        raise ConfigurationError(f"--limit must be 1 or more, not {limit}")
    return asyncio.run(_redrive(selection, rate, dry_run=dry_run))


async def _redrive(selection: Selection, rate: float, *, dry_run: bool) -> int:
    async with open_store(load_settings()) as store:
        work = Redrive(store, RequestService(store))
        return await (_count(work, selection) if dry_run else _run(work, selection, rate))


async def _count(work: Redrive, selection: Selection) -> ExitCode:
    tally = await work.count(selection)
    failures = [
        {"service": service, "error_code": code, "requests": requests}
        for (service, code), requests in sorted(tally.failures.items())
    ]
    print(json.dumps({"requests": tally.requests, "failures": failures}, indent=2, ensure_ascii=False))
    print("nothing was retried", file=sys.stderr)
    return ExitCode.DONE


async def _run(work: Redrive, selection: Selection, rate: float) -> ExitCode:
    retried = passed_over = 0
    async with aclosing(work.run(selection, rate=rate)) as results:
        async for result in results:
            if result.problem is None:
                retried += 1
                print(json.dumps({"id": result.request_id, "retry_of": result.original_id}), flush=True)
            else:
                passed_over += 1
                print(f"request {result.original_id} was passed over: {result.problem}", file=sys.stderr)
    print(f"{retried} retried, {passed_over} passed over", file=sys.stderr)
    return ExitCode.FAILED if passed_over else ExitCode.DONE
