"""LocalDefault: MongoDB and base services of one's own, for whatever the settings leave out."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pydantic import SecretStr
from starlette.types import ASGIApp

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.loopback_guard import LoopbackGuard
from agent_service.local.servers import serve
from agent_service.settings import Settings, SmtpSettings

#: How often the programs that belong to this process are looked at, in seconds.
_LOOK_EVERY = 1.0

#: What is loaded only when it is needed; most of it comes with the extra `local`.
_HOMES = {
    "start_mongod": "agent_service.local.mongod",
    "start_language_model": "agent_service.local.language_model",
    "create_analysis_app": "agent_service.local.analysis_service",
    "create_communication_app": "agent_service.local.communication_service",
    "SmtpSettings": "agent_service.local.email_channel",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """A program that was started: what to call it, and how to see whether it still runs."""

    name: str
    is_running: Callable[[], bool]


class LocalDefault:
    """The parts that run; `settings` are complete: everything in them has an address."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Where the local communication service puts its messages, if it runs.
        self.outbox: Path | None = None
        self._programs: list[_Program] = []

    async def wait_until_broken(self) -> None:
        """Wait until a program that belongs to this process has ended; raises LocalPartUnavailable then."""
        while True:
            for program in self._programs:
                if not program.is_running():
                    raise LocalPartUnavailable(
                        f"{program.name} has ended by itself; its log is in {self.settings.data_folder}"
                    )
            await asyncio.sleep(_LOOK_EVERY)

    async def start_mongodb(self, stack: AsyncExitStack) -> None:
        """Start a mongod, and put its address into the settings."""
        start_mongod = _load("start_mongod", instead="MONGODB_URI")
        mongodb = self.settings.mongodb
        server = await start_mongod(self.settings.data_folder / "mongodb", binary=mongodb.mongod_binary)
        stack.push_async_callback(server.stop)
        self._programs.append(_Program(name="the embedded MongoDB", is_running=lambda: server.is_running))
        changed = mongodb.model_copy(update={"uri": SecretStr(server.uri)})
        self.settings = self.settings.model_copy(update={"mongodb": changed})

    async def start_generation(self, stack: AsyncExitStack) -> None:
        """
        Start the language model; the worker speaks to it as to any OpenAI-compatible server.

        Whoever has no key is refused, a page in a browser and other users of this machine alike.
        """
        api_key = SecretStr(secrets.token_hex())
        start_language_model = _load("start_language_model", instead="GENERATION_BASE_URL")
        model = await start_language_model(
            log=self.settings.data_folder / "language_model.log", threads=_model_threads(), api_key=api_key
        )
        stack.push_async_callback(model.stop)
        self._programs.append(_Program(name="the language model", is_running=lambda: model.is_running))
        self._set(
            "generation", {"base_url": model.base_url, "protocol": "openai", "model": model.model}, api_key
        )

    async def start_analysis(self, stack: AsyncExitStack) -> None:
        """Serve the analysis service."""
        create = _load("create_analysis_app", instead="ANALYSIS_BASE_URL")
        await self._serve(stack, "analysis", create())

    async def start_communication(self, stack: AsyncExitStack) -> None:
        """Serve the communication service, its outbox in the data folder."""
        create = _load("create_communication_app", instead="COMMUNICATION_BASE_URL")
        self.outbox = self.settings.data_folder / "outbox"
        self.outbox.mkdir(parents=True, exist_ok=True)
        smtp = self.settings.smtp
        app = create(self.outbox, smtp=_translate(smtp), sender=smtp.sender)
        await self._serve(stack, "communication", app)

    async def _serve(self, stack: AsyncExitStack, service: str, app: ASGIApp) -> None:
        server = await stack.enter_async_context(serve(LoopbackGuard(app)))
        self._set(service, {"base_url": server.base_url, "protocol": "execute"})

    def _set(self, service: str, values: Mapping[str, str], api_key: SecretStr | None = None) -> None:
        """Point a service at its local part, which has this key or needs none."""
        services = dict(self.settings.services)
        services[service] = services[service].model_copy(update={**values, "api_key": api_key})
        self.settings = self.settings.model_copy(update={"services": MappingProxyType(services)})


@asynccontextmanager
async def start_local_default(settings: Settings) -> AsyncIterator[LocalDefault]:
    """
    Start a part of our own for each address that `settings` leave out, and stop them all at the end.

    Raises LocalPartUnavailable that says which part cannot run, why, and what to set instead.
    """
    local = LocalDefault(settings)
    async with AsyncExitStack() as stack:
        if settings.mongodb.uri is None:
            await local.start_mongodb(stack)
        for service, start in (
            ("generation", local.start_generation),
            ("analysis", local.start_analysis),
            ("communication", local.start_communication),
        ):
            if settings.services[service].base_url is None:
                await start(stack)
        yield local


# What is loaded by name has no type here; what is used of it stands beside its use.
def _load(name: str, *, instead: str) -> Callable[..., Any]:
    try:
        module = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        raise LocalPartUnavailable(
            f"a part of the local default cannot run: the package {error.name} is not installed."
            f" Install agent-service[local], or set {instead}."
        ) from error
    return cast("Callable[..., Any]", getattr(module, name))


def _model_threads() -> int:
    """
    One processor stays free, because the model's threads wait for each other busily.

    With a thread on each of two processors, anything else that ran made a text take 12-22 s instead of 3-5 s.
    """
    return max(1, (os.cpu_count() or 1) - 1)


def _translate(smtp: SmtpSettings) -> object | None:
    """The mail server as the communication service takes it; None where none is configured."""
    if smtp.host is None:
        return None
    settings: object = _load("SmtpSettings", instead="COMMUNICATION_BASE_URL")(
        host=smtp.host,
        port=smtp.port,
        security="starttls" if smtp.starttls else "none",
        username=smtp.username,
        password=smtp.password.get_secret_value() if smtp.password else None,
    )
    return settings
