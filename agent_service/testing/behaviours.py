"""Behaviours: what a scripted base service can be told to do with a call; they can be nested."""

import asyncio
import gzip
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from agent_service.domain.json_value import JsonValue
from agent_service.testing.calls import Behaviour, RecordedCall, Reply


def complete(output: JsonValue, *, usage: Mapping[str, JsonValue] | None = None) -> Behaviour:
    """Complete the step with this output."""
    return answer(_whole(output, usage))


def stream(
    *pieces: str,
    output: JsonValue = None,
    usage: Mapping[str, JsonValue] | None = None,
    every: timedelta = timedelta(0),
    then: Behaviour | None = None,
) -> Behaviour:
    """
    Stream these pieces of text, so far apart, then complete the step.

    Without `output` it is the whole text, as `{"text": …}`. Apart by more than 50 ms, each piece becomes a
    chunk of its own. `then` goes on in the place of the end: `then=drop_connection()` breaks off.
    """

    async def pause(_number: int) -> None:
        await asyncio.sleep(every.total_seconds())

    text: JsonValue = {"text": "".join(pieces)} if output is None else output
    last = [] if then is not None else [_whole(text, usage)]
    return events(*({"delta": piece} for piece in pieces), *last, then=then, before_each=pause)


def fail(
    status: int,
    *,
    code: str | None = None,
    message: str = "out of order",
    retry_after: timedelta | str | None = None,
) -> Behaviour:
    """
    Answer with an error as problem+json; `docs/base-services.md` says which are tried again.

    `code` is the service's own word for it, such as `context_length_exceeded`; `retry_after` becomes the
    header `Retry-After`, as whole seconds or as it is given.
    """
    problem = {"type": "about:blank", "title": "Error", "status": status, "detail": message}
    headers = {"Content-Type": "application/problem+json"}
    if isinstance(retry_after, timedelta):
        retry_after = str(math.ceil(retry_after.total_seconds()))
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    return answer(problem if code is None else {**problem, "code": code}, status=status, headers=headers)


def hang() -> Behaviour:
    """Nothing more, for as long as the client stays."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        reply.keep_alive = False
        await call.closed.wait()

    return behave


def drop_connection() -> Behaviour:
    """Close the connection without an answer, or in the middle of one."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        reply.cut()

    return behave


def after(length: timedelta, then: Behaviour) -> Behaviour:
    """Nothing for so long, then `then`: a service that takes its time."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await asyncio.sleep(length.total_seconds())
        await then(call, reply)

    return behave


def delayed(until: asyncio.Event, then: Behaviour) -> Behaviour:
    """Nothing until the event is set, then `then`."""

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await until.wait()
        await then(call, reply)

    return behave


async def echo(call: RecordedCall, reply: Reply) -> None:
    """Complete the step; the output says which step and attempt this was, and what its input was."""
    output = {"step": call.step, "attempt": call.attempt, "input": call.input}
    await answer({"output": output})(call, reply)


def answer(
    value: Any = None,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    body: bytes | str | None = None,
    compressed: bool = False,
) -> Behaviour:
    """A whole answer at once: `value` as JSON, or `body` as it is."""
    text = json.dumps(value) if body is None else body
    content = text.encode() if isinstance(text, str) else text
    if compressed:
        content, headers = gzip.compress(content), {"Content-Encoding": "gzip", **(headers or {})}

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(status, headers, length=len(content))
        await reply.send(content)
        await reply.finish()

    return behave


def events(
    *data: Any,
    then: Behaviour | None = None,
    headers: dict[str, str] | None = None,
    before_each: Callable[[int], Awaitable[None]] | None = None,
) -> Behaviour:
    """
    An event stream: text as it is, anything else as JSON.

    `before_each` is awaited with the number of the event about to be sent; `then` goes on in the place of
    the regular end, so `then=hang()` never ends and `then=drop_connection()` breaks off.
    """

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200, {"Content-Type": "text/event-stream; charset=utf-8", **(headers or {})})
        for number, item in enumerate(data):
            if before_each is not None:
                await before_each(number)
            text = item if isinstance(item, str) else json.dumps(item)
            await reply.send(f"data: {text}\n\n".encode())
        await (then(call, reply) if then is not None else reply.finish())

    return behave


def _whole(output: JsonValue, usage: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    return {"output": output} if usage is None else {"output": output, "usage": dict(usage)}
