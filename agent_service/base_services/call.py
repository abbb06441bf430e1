"""BaseServiceCall and BaseServiceAnswer: what a base service is asked, and what it answered."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from agent_service.domain.json_value import JsonObject, JsonValue

#: Takes one piece of streamed text; nothing more is read from the service until it has returned.
OnDelta: TypeAlias = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseServiceCall:
    """One attempt of one context; `timeout` is what is left of it: the hard limit of the whole call."""

    context_id: str
    request_id: str
    step: str
    attempt: int
    input: JsonValue
    metadata: JsonObject
    idempotency_key: str
    organization_id: str
    user_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    timeout: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseServiceAnswer:
    """A complete answer; `usage` is what the service says that it consumed, in units of its own."""

    output: JsonValue
    usage: JsonObject | None = None
