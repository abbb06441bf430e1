"""The command that submits a request; it speaks to a running API."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_client import open_client
from agent_service.cli.printing import print_document
from agent_service.cli.watching import Watch, run_watching
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.json_value import JsonObject
from agent_service.settings import load_settings


def submit(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    wait: bool = False,
    stream: bool = False,
    idempotency_key: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """
    Submit a request to a running API and print what was accepted.

    Parameters
    ----------
    file
        The submission as JSON; `-` reads it from the standard input.
    wait
        Wait for the end and print the request as it ended; exit code 1 unless it completed.
    stream
        Print what happens until the end: on a terminal the text of the steps as it comes, else each event as
        one line of JSON; exit code 1 unless it completed.
    idempotency_key
        Makes it safe to repeat: the same key and submission give the same request.
    as_json
        Print events as JSON on a terminal, too.
    """
    submission = _read_submission(file)

    async def command(watch: Watch) -> ExitCode:
        async with open_client(load_settings()) as client:
            accepted = await client.submit(submission, idempotency_key=idempotency_key)
            if not wait and not stream:
                print_document(accepted.raw)
                return ExitCode.DONE
            print(f"request {accepted.id} was accepted", file=sys.stderr)
            if stream:
                await watch.follow(client, accepted.id, as_json=as_json)
            ended = await watch.wait(client, accepted.id)
        if wait:
            print_document(ended.raw)
        return ExitCode.DONE if ended.completed else ExitCode.FAILED

    return run_watching(command)


def _read_submission(file: str) -> JsonObject:
    """The JSON object in a file or in the standard input. Raises ConfigurationError."""
    name = "the standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        submission = json.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must hold a submission as JSON: {error}") from error
    if not isinstance(submission, Mapping):
        raise ConfigurationError(f"{name} must hold a submission: a JSON object")
    return submission
