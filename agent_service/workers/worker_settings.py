"""WorkerSettings: the keyword arguments of a worker, those left out filled in from the environment."""

from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.errors import ConfigurationError
from agent_service.settings import ServiceSettings, load_settings, service_settings

#: Where no notification can come, nobody waits longer than this.
LONGEST_POLL_UNNOTIFIED = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How one worker works; times are lengths, `concurrency` and `batch_size` are numbers of contexts."""

    base_url: str | None
    api_key: str | None
    poll_interval: timedelta
    concurrency: int
    batch_size: int
    timeout: timedelta
    lease: timedelta
    protocol: str
    model: str | None
    shutdown_grace: timedelta
    retention: timedelta
    #: What has waited for so long is served as if its priority were smaller by one; zero: never.
    priority_ageing: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerArguments:
    """The keyword arguments as a caller gave them; None for those left out."""

    base_url: str | None
    api_key: str | None
    poll_interval: timedelta | float | None
    concurrency: int | None
    batch_size: int | None
    timeout: timedelta | float | None
    lease_seconds: timedelta | float | None
    protocol: str | None
    model: str | None
    shutdown_grace: timedelta | float | None
    retention: timedelta | None
    priority_ageing: timedelta | float | None


def resolve(service: str, given: WorkerArguments) -> WorkerSettings:
    """
    What was given, and the rest from the environment.

    Raises `ConfigurationError` for a variable or an argument that cannot be.
    """
    found = service_settings(service)
    concurrency = found.concurrency if given.concurrency is None else given.concurrency
    asked_for = min(found.batch_size, concurrency) if "batch_size" in found.model_fields_set else concurrency
    batch_size = asked_for if given.batch_size is None else given.batch_size
    of_process = (given.shutdown_grace, given.retention, given.priority_ageing)
    process = load_settings() if None in of_process else None
    settings = WorkerSettings(
        base_url=given.base_url or found.base_url,
        api_key=given.api_key or _secret(found),
        poll_interval=_length(given.poll_interval, found.poll_interval),
        concurrency=concurrency,
        batch_size=batch_size,
        timeout=_length(given.timeout, found.timeout),
        lease=_length(given.lease_seconds, found.lease),
        protocol=given.protocol or found.protocol,
        model=given.model or found.model,
        shutdown_grace=_length(given.shutdown_grace, process.shutdown_grace if process else timedelta(0)),
        retention=given.retention or (process.retention if process else timedelta(0)),
        priority_ageing=_length(given.priority_ageing, process.priority_ageing if process else timedelta(0)),
    )
    _check(service, settings)
    return settings


def _check(service: str, settings: WorkerSettings) -> None:
    for name in ("poll_interval", "timeout", "lease"):
        if getattr(settings, name) <= timedelta(0):
            raise ConfigurationError(f"the {service} worker needs a {name} above 0")
    if settings.concurrency < 1 or settings.batch_size < 1:
        raise ConfigurationError(f"the {service} worker needs a concurrency and a batch_size of at least 1")


def _length(given: timedelta | float | None, otherwise: timedelta) -> timedelta:
    """A length of time; a plain number is seconds."""
    if given is None:
        return otherwise
    return given if isinstance(given, timedelta) else timedelta(seconds=given)


def _secret(settings: ServiceSettings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key else None
