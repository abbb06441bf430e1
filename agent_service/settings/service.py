"""ServiceSettings: how one base service is called."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr

from agent_service.settings.sections import Section
from agent_service.settings.value_types import LOWER_CASE, SECOND, HttpAddress, Protocol, duration
from agent_service.settings.variable import API, WORKER, Variable


class ServiceSettings(Section):
    """How one base service is called; the name of the service precedes its variables (GENERATION_MODEL)."""

    base_url: Annotated[
        HttpAddress | None,
        Field(repr=False),
        Variable(
            name="BASE_URL",
            about="address of the base service; unset: `dev` starts a local one",
            must_be="an http:// or https:// address without query and fragment",
            read_by=WORKER,
            visibility="uri",
        ),
    ] = None
    api_key: Annotated[
        SecretStr | None,
        Variable(
            name="API_KEY",
            about="sent to the base service as a bearer token",
            must_be="text",
            read_by=WORKER,
            visibility="secret",
        ),
    ] = None
    poll_interval: Annotated[
        timedelta,
        duration(),
        Variable(
            name="POLL_INTERVAL",
            about="seconds between two looks for work when no notification comes",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=WORKER,
        ),
    ] = 10 * SECOND
    concurrency: Annotated[
        int,
        Field(ge=1, le=1000),
        Variable(
            name="CONCURRENCY",
            about="calls at the same time, in each process",
            must_be="a whole number from 1 to 1000",
            read_by=WORKER,
        ),
    ] = 10
    batch_size: Annotated[
        int,
        Field(ge=1, le=1000),
        Variable(
            name="BATCH_SIZE",
            about="contexts claimed at once, at most; unset: as CONCURRENCY",
            must_be="a whole number from 1 to 1000",
            read_by=WORKER,
        ),
    ] = Field(default_factory=lambda fields: fields["concurrency"])
    timeout: Annotated[
        timedelta,
        duration(),
        Variable(
            name="TIMEOUT",
            about="seconds that one call may take",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=WORKER,
        ),
    ] = 120 * SECOND
    max_attempts: Annotated[
        int,
        Field(ge=1, le=100),
        Variable(
            name="MAX_ATTEMPTS",
            about="tries of one context before it fails",
            must_be="a whole number from 1 to 100",
            read_by=API,
        ),
    ] = 5
    lease: Annotated[
        timedelta,
        duration(at_least=SECOND),
        Variable(
            name="LEASE_SECONDS",
            about="seconds after which the work of a silent worker goes to another",
            must_be="a number of seconds, 1 at least (ten years at most)",
            read_by=WORKER,
        ),
    ] = 30 * SECOND
    protocol: Annotated[
        Protocol,
        LOWER_CASE,
        Variable(
            name="PROTOCOL",
            about="`execute`, or `openai` for any OpenAI-compatible server",
            must_be="execute or openai",
            read_by=WORKER,
        ),
    ] = "execute"
    model: Annotated[
        str | None,
        Variable(
            name="MODEL", about="model asked for with the protocol `openai`", must_be="text", read_by=WORKER
        ),
    ] = None
