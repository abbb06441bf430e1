"""Settings: every value that the environment decides."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from agent_service.settings.callback import CallbackSettings
from agent_service.settings.sections import (
    ApiSettings,
    LimitSettings,
    LogSettings,
    MongoSettings,
    Section,
    SmtpSettings,
)
from agent_service.settings.service import ServiceSettings
from agent_service.settings.service_names import STANDARD_SERVICES, parse_service_names
from agent_service.settings.sources import Origin
from agent_service.settings.value_types import DAY, SECOND, BearerToken, HttpAddress, duration
from agent_service.settings.variable import API, CLIENT, DEV, EVERY_ROLE, WORKER, Variable


def _standard_services() -> Mapping[str, ServiceSettings]:
    return MappingProxyType({name: ServiceSettings() for name in STANDARD_SERVICES})


def _no_origins() -> Mapping[str, Origin]:
    return MappingProxyType({})


class Settings(Section):
    """All settings; made by `load_settings`."""

    mongodb: MongoSettings = MongoSettings()
    further_services: Annotated[
        tuple[str, ...],
        BeforeValidator(parse_service_names),
        Variable(
            name="SERVICES",
            about="services besides generation, analysis and communication, separated by commas",
            must_be="names like translation, separated by commas",
            read_by=EVERY_ROLE,
        ),
    ] = ()
    #: By name: the standard services and the further ones, always with all their values.
    services: Mapping[str, ServiceSettings] = Field(default_factory=_standard_services)
    api: ApiSettings = ApiSettings()
    limits: LimitSettings = LimitSettings()
    request_deadline: Annotated[
        timedelta,
        duration(),
        Variable(
            name="REQUEST_DEADLINE_SECONDS",
            about="seconds after which a request that has not ended fails; no client may ask for more",
            must_be="a number of seconds above 0 (ten years at most)",
            read_by=API,
        ),
    ] = 86400 * SECOND
    retention: Annotated[
        timedelta,
        duration(unit=DAY),
        Variable(
            name="RETENTION_DAYS",
            about="days that an ended request is kept",
            must_be="a number of days above 0 (ten years at most)",
            read_by=EVERY_ROLE,
            unit=DAY,
        ),
    ] = 7 * DAY
    shutdown_grace: Annotated[
        timedelta,
        duration(at_least=timedelta(0)),
        Variable(
            name="SHUTDOWN_GRACE_SECONDS",
            about="seconds that work in progress gets to end when the process is stopped",
            must_be="a number of seconds, 0 at least (ten years at most)",
            read_by=EVERY_ROLE,
        ),
    ] = 30 * SECOND
    priority_ageing: Annotated[
        timedelta,
        duration(at_least=timedelta(0)),
        Variable(
            name="PRIORITY_AGEING_SECONDS",
            about="seconds after which waiting work counts as if its priority were smaller by one; 0: never",
            must_be="a number of seconds, 0 at least (ten years at most)",
            read_by=WORKER,
        ),
    ] = 300 * SECOND
    agent_service_url: Annotated[
        HttpAddress | None,
        Field(repr=False),
        Variable(
            name="AGENT_SERVICE_URL",
            about="the running API that commands speak to; unset: the one that `dev` runs",
            must_be="an http:// or https:// address without query and fragment",
            read_by=CLIENT,
            visibility="uri",
        ),
    ] = None
    agent_service_api_key: Annotated[
        BearerToken | None,
        Variable(
            name="AGENT_SERVICE_API_KEY",
            about="the API key that commands and clients send; unset: none",
            must_be="an API key, without spaces",
            read_by=CLIENT,
            visibility="secret",
        ),
    ] = None
    data_folder: Annotated[
        Path,
        Variable(
            name="AGENT_SERVICE_DATA",
            about="folder in which `dev` keeps its data",
            must_be="a path",
            read_by=DEV,
        ),
    ] = Path(".agent-service")
    callback: CallbackSettings = CallbackSettings()
    log: LogSettings = LogSettings()
    smtp: SmtpSettings = SmtpSettings()

    #: What is probably a mistake but does no harm, one sentence each.
    warnings: tuple[str, ...] = ()
    #: Where the value of each variable that is set came from.
    origins: Mapping[str, Origin] = Field(default_factory=_no_origins, repr=False)

    @field_validator("services", "origins", mode="after")
    @classmethod
    def _freeze(cls, value: Mapping[str, object]) -> Mapping[str, object]:
        return MappingProxyType(dict(value))
