"""The commands about requests; they speak to a running API."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

from cyclopts import App, Parameter

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_client import open_client
from agent_service.cli.option_values import parse_moment, parse_pairs
from agent_service.cli.printing import print_document, print_lines, print_table, prints_for_people
from agent_service.cli.redrive_command import redrive
from agent_service.cli.watching import Watch, run_watching
from agent_service.client import AgentClient, RequestResult
from agent_service.settings import load_settings

requests = App(name="requests", help="Look at requests, cancel and repeat them.")
requests.command(redrive)

AsJson = Annotated[bool, Parameter(name="--json", negative="")]


@requests.command
def get(request_id: str) -> int:
    """Print a request with its steps."""
    return asyncio.run(_print_answer(lambda client: client.get(request_id)))


@requests.command(name="list")
def list_requests(
    *,
    status: str | None = None,
    service: str | None = None,
    metadata: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    created_after: str | None = None,
    created_before: str | None = None,
    limit: int = 20,
    as_json: AsJson = False,
) -> int:
    """
    Print requests, latest first: a table on a terminal, else each as one line of JSON.

    Parameters
    ----------
    status
        Only those with this status: accepted, running, completed, failed or cancelled.
    service
        Only those with a step of this service.
    metadata
        Only those with this KEY=VALUE in their metadata; may be repeated.
    created_after
        Only what was created after this time: a date and time of ISO 8601, in UTC unless it says otherwise.
    created_before
        Only what was created before this time.
    limit
        So many at most.
    as_json
        Print lines of JSON on a terminal, too.
    """
    pairs = parse_pairs("--metadata", metadata)
    after = parse_moment("--created-after", created_after)
    before = parse_moment("--created-before", created_before)

    async def command() -> ExitCode:
        async with open_client(load_settings()) as client:
            found = client.list(
                status=status,
                service=service,
                metadata=pairs,
                created_after=after,
                created_before=before,
                limit=limit,
            )
            async with aclosing(found) as summaries:
                await (print_table if prints_for_people(as_json=as_json) else print_lines)(summaries)
        return ExitCode.DONE

    return asyncio.run(command())


@requests.command
def events(request_id: str, *, after: str | None = None, as_json: AsJson = False) -> int:
    """
    Print what happens to a request until it has ended.

    On a terminal that is the text of the steps as it comes, else each event as one line of JSON.

    Parameters
    ----------
    after
        Go on after the event with this id.
    as_json
        Print lines of JSON on a terminal, too.
    """

    async def command(watch: Watch) -> ExitCode:
        async with open_client(load_settings()) as client:
            # A wrong id or address is told at once; an API that goes away later is waited for.
            await client.get(request_id)
            await watch.follow(client, request_id, after=after, as_json=as_json)
        return ExitCode.DONE

    return run_watching(command)


@requests.command
def cancel(request_id: str) -> int:
    """Cancel a request at any moment, and print how it stands; calls that run are stopped."""
    return asyncio.run(_print_answer(lambda client: client.cancel(request_id)))


@requests.command
def retry(request_id: str, *, from_step: str | None = None, idempotency_key: str | None = None) -> int:
    """
    Repeat an ended request as a new one, and print the new one.

    What completed is copied, everything else runs anew.

    Parameters
    ----------
    from_step
        Run this step and all that waits for it anew too, even where it completed.
    idempotency_key
        Makes it safe to repeat: the same key gives the same new request.
    """
    return asyncio.run(
        _print_answer(
            lambda client: client.retry(request_id, from_step=from_step, idempotency_key=idempotency_key)
        )
    )


async def _print_answer(ask: Callable[[AgentClient], Awaitable[RequestResult]]) -> ExitCode:
    async with open_client(load_settings()) as client:
        print_document((await ask(client)).raw)
    return ExitCode.DONE
