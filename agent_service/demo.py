"""
`python -m agent_service.demo`: one request through real parts, from submission to outbox, as one can watch.

It starts everything it needs on free ports, keeps the data, and stops what it started. The last line on
stdout is one JSON object: request_id, status, model, message_path, seconds.
"""

import asyncio
import json
import shlex
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from time import monotonic
from typing import NoReturn, TextIO, TypeVar

from agent_service.client import AgentClient, RequestEvent, RequestResult, StepResult
from agent_service.domain.errors import AgentServiceError
from agent_service.domain.events import EventType
from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.local.addresses import Addresses
from agent_service.local.data_folder import hold_data_folder
from agent_service.main import development, run
from agent_service.settings import (
    STANDARD_SERVICES,
    ApiSettings,
    MongoSettings,
    Settings,
    load_settings,
)
from agent_service.telemetry.logging import configure_logging

T = TypeVar("T")

#: A run takes seconds; one that takes longer than this is broken.
LIMIT_SECONDS = 180.0
#: As many demos can run beside each other in one data folder.
MOST_FOLDERS = 20

INTERRUPTED = 130
LOG = "demo.log"


def main() -> NoReturn:
    """Run the demo and exit: 0 when everything went well."""
    try:
        code = run(watch(), when_stopped=INTERRUPTED)
    except AgentServiceError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


async def watch() -> None:
    """Start everything, watch one request, stop everything. Raises AgentServiceError."""
    began = monotonic()
    configured = load_settings()
    folders = [configured.data_folder / name for name in folder_names()]
    with hold_data_folder(*folders) as folder, (folder / LOG).open("a", encoding="utf-8") as log:
        configure_logging(level="INFO", format="console", stream=log)
        _say_what_is_ignored(configured)
        _say(f"Starting MongoDB, a language model, three services, three workers and the API in {folder} …")
        async with development(_settings(configured, folder)) as (addresses, wait_until_broken):
            _say(f"Everything runs after {monotonic() - began:.1f} s. The API is at {addresses.api_url}.")
            ended = await _unless_broken(_follow(addresses, log=folder / LOG), wait_until_broken())
        _say("Everything that was started has stopped.")
        result = summarise(ended, seconds=monotonic() - began)
        _tell_where_things_are(result, ended, folder)
    print(json.dumps(result), flush=True)


def folder_names() -> Sequence[str]:
    """Where the demo keeps its data, in the data folder: the first one, unless another demo runs there."""
    return ["demo", *(f"demo-{number}" for number in range(2, MOST_FOLDERS + 1))]


def demo_submission() -> JsonObject:
    """Summarise a text, compute statistics of the summary, send it by email."""
    text = files("agent_service.local").joinpath("demo_text.txt").read_text(encoding="utf-8")
    draft: JsonObject = {"template": "Summarise for {{ vars.reader }}: {{ vars.text }}"}
    check: JsonObject = {"task": "text_statistics", "text": "{{ steps.draft.output.text }}"}
    notify: JsonObject = {
        "channel": "email",
        "to": "a@example.org",
        "subject": "A summary for {{ vars.reader }}",
        "body": "{{ steps.draft.output.text }}",
    }
    return {
        "steps": [
            {"name": "draft", "service": "generation", "input": draft},
            {"name": "check", "service": "analysis", "input": check, "after": ["draft"]},
            {"name": "notify", "service": "communication", "input": notify, "after": ["check"]},
        ],
        "variables": {"reader": "a child", "text": text},
        "deadline_seconds": 600,
    }


def summarise(ended: RequestResult, *, seconds: float) -> dict[str, JsonValue]:
    """The last line of the demo. Raises AgentServiceError unless the request completed."""
    ended.raise_unless_completed()
    return {
        "request_id": ended.id,
        "status": ended.status,
        "model": output_of(ended, "draft").get("model"),
        "message_path": output_of(ended, "notify").get("path"),
        "seconds": round(seconds, 1),
    }


def output_of(request: RequestResult, name: str) -> JsonObject:
    """The output of a step; empty while it has none that is an object."""
    output = request.step(name).output
    return output if isinstance(output, Mapping) else {}


class Narrator:
    """Tells what happens as it happens: a line for each state, and generated text as it arrives."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._began = monotonic()
        self._in_text = False

    def tell(self, event: RequestEvent) -> None:
        """Write what the event says."""
        if event.type == EventType.OUTPUT_DELTA and event.delta is not None:
            self._stream.write(event.delta if self._in_text else f"\n{event.delta}")
            self._in_text = True
        else:
            if self._in_text:
                self._stream.write("\n\n")
                self._in_text = False
            self._stream.write(self._line(event))
        self._stream.flush()

    def _line(self, event: RequestEvent) -> str:
        noun, _, state = event.type.partition(".")
        why = "" if event.error is None else f": {event.error.message}"
        return f"{monotonic() - self._began:6.2f} s  {event.step or noun:<8} {state}{why}\n"


def _settings(configured: Settings, folder: Path) -> Settings:
    """The local default and nothing else, on free ports."""
    return Settings(
        mongodb=MongoSettings(mongod_binary=configured.mongodb.mongod_binary),
        api=ApiSettings(port=0),
        data_folder=folder,
        # Nothing runs any more when all went well; when it did not, nobody wants to wait.
        shutdown_grace=timedelta(seconds=1),
    )


async def _follow(addresses: Addresses, *, log: Path) -> RequestResult:
    """Submit the request and tell what happens until it has ended; returns it as it ended."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS), AgentClient(addresses.api_url) as client:
            accepted = await client.submit(demo_submission())
            _say(f"Submitted request {accepted.id}: draft → check → notify.\n")
            narrator = Narrator(sys.stdout)
            async with aclosing(client.stream(accepted.id)) as events:
                async for event in events:
                    narrator.tell(event)
            return await client.get(accepted.id)
    except TimeoutError as late:
        raise AgentServiceError(
            f"the request did not end within {LIMIT_SECONDS:g} s; the log is {log}"
        ) from late


async def _unless_broken(following: Coroutine[None, None, T], broken: Coroutine[None, None, None]) -> T:
    """What `following` returns; raises what `broken` raises if a part ends by itself before that."""
    tasks = asyncio.create_task(following), asyncio.create_task(broken)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1].done():
            await tasks[1]
        return await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_where_things_are(result: JsonObject, ended: RequestResult, folder: Path) -> None:
    statistics = output_of(ended, "check")
    _say("\nThe statistics of the generated text:")
    for name, value in statistics.items():
        if isinstance(value, int | float):
            _say(f"  {name:<28} {value:g}")
    _say("\nHow long each step took:")
    for step in ended.steps:
        _say(f"  {step.name:<28} {_seconds(step):.2f} s")
    _say(f"\nThe message:   {result['message_path']}")
    _say(f"The log:       {folder / LOG}")
    command = f"AGENT_SERVICE_DATA={shlex.quote(str(folder))} {_command()}"
    _say("The documents: serve them again with")
    _say(f"  {command} dev")
    _say("which says where MongoDB is, and look at this request meanwhile with")
    _say(f"  {command} requests get {result['request_id']}\n")


def _command() -> str:
    """How this installation's command is called from here."""
    beside = Path(sys.executable).with_name("agent-service")
    return shlex.quote(str(beside)) if beside.exists() else "agent-service"


def _seconds(step: StepResult) -> float:
    return 0.0 if step.duration is None else step.duration.total_seconds()


def _say_what_is_ignored(configured: Settings) -> None:
    names = ["MONGODB_URI", *(f"{service.upper()}_BASE_URL" for service in STANDARD_SERVICES)]
    ignored = [name for name in names if name in configured.origins]
    if ignored:
        _say(f"The demo brings its own MongoDB and services, so it does not use {', '.join(ignored)}.")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
