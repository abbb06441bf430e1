"""CallbackWorker: tells clients that their requests have ended, with the leases and tries of every worker."""

import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.base_services.callback_client import CallbackClient, Delivery
from agent_service.base_services.json_body import dump_json
from agent_service.base_services.public_resolver import Resolver
from agent_service.domain.callback import CALLBACK_SERVICE, host_of
from agent_service.domain.errors import BaseServiceRejected, ConfigurationError
from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.domain.webhook_signature import read_secrets
from agent_service.settings import CallbackSettings
from agent_service.store import Store
from agent_service.workers.callback_hosts import CallbackHosts
from agent_service.workers.worker_base import ClientWorker
from agent_service.workers.worker_settings import WorkerArguments, WorkerSettings

#: About twenty tries within a day, most of them in the first hours.
CALLBACK_BACKOFF = RetryPolicy(base=timedelta(seconds=5), cap=timedelta(hours=4))
#: One host has this part of the slots of a process.
_HOST_SHARE = 4
_LEASE = timedelta(seconds=30)
_POLL_INTERVAL = timedelta(seconds=10)


class CallbackWorker(ClientWorker):
    """
    Delivers callbacks, each to its own address; where one does not take it, the others are not held up.

    `callbacks` must allow a host and have a secret. `resolver` and `tls` are for tests. Raises
    `ConfigurationError` that names the variable to set.
    """

    service: ClassVar[str] = CALLBACK_SERVICE

    def __init__(
        self,
        store: Store,
        *,
        callbacks: CallbackSettings,
        shutdown_grace: timedelta,
        retention: timedelta,
        backoff: RetryPolicy = CALLBACK_BACKOFF,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_callbacks(callbacks)
        self._callbacks = callbacks
        super().__init__(store, shutdown_grace=shutdown_grace, retention=retention, backoff=backoff)
        self._hosts = CallbackHosts(slots=max(callbacks.concurrency // _HOST_SHARE, 1))
        self._deliverer = CallbackClient(
            rules=callbacks.rules,
            secrets=read_secrets(callbacks.secret.get_secret_value()) if callbacks.secret else (),
            allowed_networks=callbacks.allowed_networks,
            concurrency=callbacks.concurrency,
            resolver=resolver,
            tls=tls,
        )

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Send one callback; all that is kept of the answer is its status."""
        told = call.input
        if not isinstance(told, Mapping):
            raise BaseServiceRejected("invalid_input", "a callback says where it goes and what it tells")
        url = str(told["url"])
        delivery = Delivery(
            url=url,
            id=call.idempotency_key,
            body=dump_json(_body(call, told)),
            timeout=call.timeout,
        )
        with self._hosts.turn(host_of(url)):
            status = await self._deliverer.deliver(delivery)
        return BaseServiceAnswer(output={"status": status})

    def _new_client(self) -> None:
        """The one client is for all receivers; it is open from here to `_close_client`."""
        self._deliverer.open()

    async def _close_client(self) -> None:
        await self._deliverer.close()

    def _resolve(self, arguments: WorkerArguments) -> WorkerSettings:
        """There is no one base service, and no variables of one."""
        return WorkerSettings(
            base_url=None,
            api_key=None,
            poll_interval=_POLL_INTERVAL,
            concurrency=self._callbacks.concurrency,
            batch_size=self._callbacks.concurrency,
            timeout=self._callbacks.timeout,
            lease=_LEASE,
            protocol="execute",
            model=None,
            shutdown_grace=_given(arguments.shutdown_grace),
            retention=_given(arguments.retention),
            # Callbacks have one priority.
            priority_ageing=timedelta(0),
        )


def check_callbacks(callbacks: CallbackSettings) -> None:
    """Raise `ConfigurationError` that names the variable without which no callback can be sent."""
    if not callbacks.allowed_hosts:
        raise ConfigurationError(
            "CALLBACK_ALLOWED_HOSTS is not set, so callbacks are off: it must name the hosts that they may go"
            " to, such as hooks.example.org or *.example.org, separated by commas"
        )
    if callbacks.secret is None:
        raise ConfigurationError(
            "CALLBACK_SECRET is not set: it must be what callbacks are signed with, whsec_ and 24 to 64 bytes"
            ' in base64, such as "whsec_$(openssl rand -base64 32)" makes'
        )


def _body(call: BaseServiceCall, told: Mapping[str, JsonValue]) -> JsonObject:
    """What a receiver is told: that it happened, and to what; the rest it asks the API for."""
    data: dict[str, JsonValue] = {
        "request_id": call.request_id,
        "status": told["status"],
        "organization_id": call.organization_id,
    }
    if call.correlation_id is not None:
        data["correlation_id"] = call.correlation_id
    return {"type": f"request.{told['status']}", "timestamp": told["timestamp"], "data": data}


def _given(value: timedelta | float | None) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value or 0)
