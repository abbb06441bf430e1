"""The command that deletes what is stored of an organization or a user; it speaks to MongoDB itself."""

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import asdict

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_store import open_store
from agent_service.purge import Holdings, Purge, Subject
from agent_service.request_service import RequestService
from agent_service.settings import load_settings


def purge(*, organization: str, user: str | None = None, yes: bool = False) -> int:
    """
    Delete the requests of an organization, with their steps, outputs and events; without --yes only count.

    What has not ended is cancelled first, and deleted half a minute after its end. Safe while everything
    runs; it can be stopped at any moment and run again. Exit code 75 if something had not ended after a
    minute: run it again then.

    Parameters
    ----------
    organization
        Whose requests; `default` where there are no API keys.
    user
        Only requests of this user.
    yes
        Really delete. It cannot be undone.
    """
    return asyncio.run(_purge(Subject(organization_id=organization, user_id=user), yes=yes))


async def _purge(subject: Subject, *, yes: bool) -> ExitCode:
    async with open_store(load_settings()) as store:
        work = Purge(store, RequestService(store))
        return await (_run(work, subject) if yes else _count(work, subject))


async def _count(work: Purge, subject: Subject) -> ExitCode:
    _print(await work.count(subject))
    print("nothing was deleted; --yes deletes this", file=sys.stderr)
    return ExitCode.DONE


async def _run(work: Purge, subject: Subject) -> ExitCode:
    total, left = Holdings(), 0
    try:
        async with aclosing(work.run(subject)) as batches:
            async for batch in batches:
                total += batch.deleted
                left = batch.left
    finally:
        # Also where it is stopped in the middle: this much is gone.
        _print(total)
    if left:
        print(f"{left} requests have not ended yet, or just now; run this again", file=sys.stderr)
        return ExitCode.TRY_AGAIN
    return ExitCode.DONE


def _print(holdings: Holdings) -> None:
    print(json.dumps(asdict(holdings), indent=2))
