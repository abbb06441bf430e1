"""Callbacks in tests: requests that want one, the contexts that deliver them, and workers that do."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from agent_service.domain.callback import CallbackRules, PortRange, callback_id
from agent_service.request_service import RequestService
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.workers.callback_worker import CallbackWorker
from tests.support.names import HostTable
from tests.support.waiting import until
from tests.support.worker_tools import AT_ONCE, Raw

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: Receivers of tests have any free port.
ANY_PORT = (PortRange(1, 65_535),)
RULES = CallbackRules(allowed_hosts=("*.example.org",), allow_http=True, allowed_ports=ANY_PORT)
#: An address that is never called in these tests.
CALLBACK: Mapping[str, Any] = {"url": "https://hooks.example.org/ended"}
SERVICES = {"generation": 3, "analysis": 3, "communication": 3}


def requests_with_callbacks(store: Store, **options: Any) -> RequestService:
    """What takes requests that want to be told of their ends."""
    return RequestService(store, **{"max_attempts": SERVICES, "callbacks": RULES, **options})


def at(port: int, *, label: str = "hooks") -> Mapping[str, Any]:
    """A callback to a receiver of the test at this port."""
    return {"url": f"http://{label}.example.org:{port}/ended"}


async def callbacks_of(raw: Raw, request_id: str) -> list[dict[str, Any]]:
    """All documents of contexts that deliver a callback of this request."""
    return await raw.contexts.find({"request_id": request_id, "service": "callback"}).to_list()


async def callback_of(raw: Raw, request_id: str) -> dict[str, Any]:
    """The one callback of a request, as it is stored now."""
    [document] = await callbacks_of(raw, request_id)
    assert document["_id"] == callback_id(request_id)
    return document


async def delivered(raw: Raw, request_id: str, status: str = "completed") -> dict[str, Any]:
    """The callback of a request once it has this status."""

    async def look() -> dict[str, Any] | None:
        return next((c for c in await callbacks_of(raw, request_id) if c["status"] == status), None)

    return await until(look, seconds=60)


def a_callback_worker(
    store: Store, *, environ: Mapping[str, str] | None = None, **options: Any
) -> CallbackWorker:
    """A worker that reaches receivers on this machine as `hooks.example.org` and `other.example.org`."""
    settings = load_settings(
        {
            "CALLBACK_ALLOWED_HOSTS": ",".join(RULES.allowed_hosts),
            "CALLBACK_ALLOW_HTTP": "true",
            "CALLBACK_ALLOWED_PORTS": "1-65535",
            "CALLBACK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CALLBACK_SECRET": SECRET,
            "CALLBACK_TIMEOUT": "30",
            **(environ or {}),
        },
        env_file=None,
        secrets_folder=None,
    )
    usual = {
        "shutdown_grace": timedelta(seconds=10),
        "retention": timedelta(days=7),
        "backoff": AT_ONCE,
        "resolver": HostTable(hooks="127.0.0.1", other="127.0.0.1"),
    }
    return CallbackWorker(store, callbacks=settings.callback, **{**usual, **options})
