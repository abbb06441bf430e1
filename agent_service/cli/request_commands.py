"""The commands about requests; they speak to a running API."""

import asyncio
import json
from contextlib import aclosing

from cyclopts import App

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.redrive_command import redrive
from agent_service.cli.running_service import open_client
from agent_service.client import AgentClient, StreamEvent
from agent_service.domain.json_value import JsonObject
from agent_service.settings import load_settings

requests = App(name="requests", help="Look at requests, cancel and repeat them.")
requests.command(redrive)


@requests.command
def get(request_id: str) -> int:
    """Print a request with its steps."""
    return asyncio.run(_get(request_id))


@requests.command
def events(request_id: str) -> int:
    """Print what happens to a request, each event as one line of JSON, until it has ended."""
    return asyncio.run(_events(request_id))


@requests.command
def cancel(request_id: str) -> int:
    """Cancel a request at any moment, and print how it stands; calls that run are stopped."""
    return asyncio.run(_cancel(request_id))


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
    return asyncio.run(_retry(request_id, from_step, idempotency_key))


async def print_events(client: AgentClient, request_id: str) -> None:
    """Print each event of a request as one line of JSON, until it has ended."""
    async with aclosing(client.events(request_id)) as stream:
        async for event in stream:
            print(_one_line(event), flush=True)


def print_document(document: JsonObject) -> None:
    """Print an answer of the API for people and programs."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


async def _get(request_id: str) -> int:
    async with open_client(load_settings()) as client:
        print_document(await client.get(request_id))
    return ExitCode.DONE


async def _events(request_id: str) -> int:
    async with open_client(load_settings()) as client:
        await print_events(client, request_id)
    return ExitCode.DONE


async def _cancel(request_id: str) -> int:
    async with open_client(load_settings()) as client:
        print_document(await client.cancel(request_id))
    return ExitCode.DONE


async def _retry(request_id: str, from_step: str | None, idempotency_key: str | None) -> int:
    async with open_client(load_settings()) as client:
        print_document(await client.retry(request_id, from_step=from_step, idempotency_key=idempotency_key))
    return ExitCode.DONE


def _one_line(event: StreamEvent) -> str:
    return json.dumps({"id": event.id, **event.data}, ensure_ascii=False)
