"""Callback: telling a client, at an address that it named, that its request has ended."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import SplitResult, urlsplit

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.line import rank_at
from agent_service.domain.request import DEFAULT_QUEUE, Callback, Caller, RequestStatus

#: The internal service whose contexts are deliveries; no step can name it.
CALLBACK_SERVICE = "callback"
#: How long after the end of a request its callback is tried.
CALLBACK_LIFE = timedelta(hours=24)
#: More tries than fit into that time: it is the time that ends them.
CALLBACK_TRIES = 100
LONGEST_CALLBACK_URL = 2_048

#: What a URI may consist of (RFC 3986), and so no brace, which would begin a template.
_URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
#: A name of two labels or more; the last one is no number, so an address is none.
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+(?![0-9]+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_HOST = 253
_OWN_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackRules:
    """
    Which addresses callbacks may go to; none as long as no host is allowed.

    A host is a name (`hooks.example.org`), or stands for all names below one (`*.example.org`). The port is
    that of the scheme, 443 or 80, or in one of `allowed_ports`.
    """

    allowed_hosts: tuple[str, ...] = ()
    allow_http: bool = False
    allowed_ports: tuple[PortRange, ...] = ()

    def problem(self, url: str) -> str | None:
        """What must be otherwise for a callback to go there; None if it may. Completes "the address …"."""
        if not self.allowed_hosts:
            return (
                "cannot be used: callbacks are off here, because no host is allowed (CALLBACK_ALLOWED_HOSTS)"
            )
        if len(url) > LONGEST_CALLBACK_URL:
            return f"must have at most {LONGEST_CALLBACK_URL} characters"
        parts = _split(url)
        if parts is None:
            return "must be an address such as https://hooks.example.org/ended"
        return self._form_problem(parts) or self._host_problem((parts.hostname or "").lower())

    def _form_problem(self, parts: SplitResult) -> str | None:
        if parts.scheme != "https" and not (self.allow_http and parts.scheme == "http"):
            return "must begin with https://"
        if "@" in parts.netloc:
            return "must not have a user or password; callbacks are signed instead"
        if parts.fragment:
            return "must not have a fragment (#…), which is never sent"
        port, own = parts.port, _OWN_PORTS[parts.scheme]
        if port is None or port == own or any(port in ports for ports in self.allowed_ports):
            return None
        return f"must have port {own}, or one that is allowed here; {port} is not (CALLBACK_ALLOWED_PORTS)"

    def _host_problem(self, host: str) -> str | None:
        if not is_host_name(host):
            return "must name a host such as hooks.example.org, not an address"
        if any(_matches(host, allowed) for allowed in self.allowed_hosts):
            return None
        return f"must name a host that is allowed here; {host} is not (CALLBACK_ALLOWED_HOSTS)"


#: What applies where nothing is configured.
NO_CALLBACKS = CallbackRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRequest:
    """A request that has ended and whose client wants to be told."""

    id: str
    caller: Caller
    callback: Callback
    status: RequestStatus
    finished_at: datetime


def is_host_name(text: str) -> bool:
    """Whether this is the name of a host in lower case, of two labels or more, and no address."""
    return len(text) <= _LONGEST_HOST and _HOST.fullmatch(text) is not None


def host_of(url: str) -> str:
    """The host of an address that the rules let pass."""
    return (urlsplit(url).hostname or "").lower()


def callback_id(request_id: str, number: int = 1) -> str:
    """
    The id of the callback of a request, outside of the range of the ids of its steps' contexts.

    `number` counts its deliveries: 2 is the first that somebody asked for after the callback had failed.
    """
    first = f"{request_id}:{CALLBACK_SERVICE}"
    return first if number == 1 else f"{first}.{number}"


def is_callback(context_id: str) -> bool:
    """Whether a context delivers a callback, and is no step of its request."""
    # Asked of everything that changes, and hardly anything has a colon.
    return ":" in context_id and context_id.partition(".")[0].endswith(f":{CALLBACK_SERVICE}")


def delivery_number(context_id: str) -> int:
    """Which delivery of its callback a context is, from 1 on. Raises `ValueError` if it is none."""
    first, _, number = context_id.partition(".")
    if not is_callback(first):
        raise ValueError(f"{context_id} is the id of no callback")
    return int(number or 1)


def callback_context(ended: EndedRequest, *, at: datetime, expires_at: datetime, number: int = 1) -> Context:
    """
    The context that delivers the callback of a request, claimable at once.

    It expires at a time that is known from the beginning, long after its last try. Receivers know each
    delivery by the id of the first.
    """
    return Context(
        id=callback_id(ended.id, number),
        request_id=ended.id,
        step=CALLBACK_SERVICE,
        service=CALLBACK_SERVICE,
        queue=DEFAULT_QUEUE,
        caller=ended.caller,
        status=ContextStatus.PENDING,
        priority=0,
        rank=rank_at(at),
        run_at=at,
        waiting_on=(),
        input={
            "url": ended.callback.url,
            "status": ended.status.value,
            "timestamp": ended.finished_at.isoformat(),
        },
        idempotency_key=callback_id(ended.id),
        max_attempts=CALLBACK_TRIES,
        created_at=at,
        deadline_at=at + CALLBACK_LIFE,
        released_at=at,
        expires_at=expires_at,
    )


def _split(url: str) -> SplitResult | None:
    """The parts of a whole address; None for what is none."""
    try:
        parts = urlsplit(url) if _URI.fullmatch(url) else None
        usable = parts is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _matches(host: str, allowed: str) -> bool:
    return host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
