"""A stub and a client of it, for each kind of HTTP client that may be underneath."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import httpx2
import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.base_services.client import BaseServiceClient
from agent_service.base_services.http_client import HttpClient
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, BaseServiceUnavailable
from tests.support.base_service_stub import BaseServiceStub

#: Runs a test with our own client, and with one of each generation of httpx brought by the caller.
each_kind = pytest.mark.parametrize("kind", ["own", "httpx2", "httpx"])


def injected_client(kind: str) -> HttpClient | None:
    if kind == "httpx2":
        return httpx2.AsyncClient(trust_env=False)
    if kind == "httpx":
        return httpx.AsyncClient(trust_env=False)
    return None


def make_call(**values: Any) -> BaseServiceCall:
    usual: dict[str, Any] = {
        "context_id": "request.draft",
        "request_id": "request",
        "step": "draft",
        "attempt": 1,
        "input": {"template": "Hello"},
        "metadata": {"source": "test"},
        "idempotency_key": "key",
        "organization_id": "organization",
        "timeout": timedelta(seconds=10),
    }
    return BaseServiceCall(**(usual | values))


@dataclass
class Service:
    """The two ends of a connection, and the streamed text that came through."""

    stub: BaseServiceStub
    client: BaseServiceClient
    deltas: list[str] = field(default_factory=list)
    on_delta: Callable[[str], Awaitable[None]] | None = None

    async def call(self, **values: Any) -> BaseServiceAnswer:
        return await self.client.call(make_call(**values), self.on_delta or self._keep)

    async def unavailable(self, **values: Any) -> BaseServiceUnavailable:
        """Call, and return the error that says that another try may help."""
        error = await self._error(**values)
        assert isinstance(error, BaseServiceUnavailable), error
        return error

    async def rejected(self, **values: Any) -> BaseServiceRejected:
        """Call, and return the error that says that another try would end the same way."""
        error = await self._error(**values)
        assert isinstance(error, BaseServiceRejected), error
        return error

    async def _error(self, **values: Any) -> BaseServiceError:
        with pytest.raises(BaseServiceError) as caught:
            await self.call(**values)
        return caught.value

    async def _keep(self, delta: str) -> None:
        self.deltas.append(delta)


@asynccontextmanager
async def service(
    kind: str = "own", *, path: str = "", credentials: str = "", **options: Any
) -> AsyncIterator[Service]:
    """A running stub and a client of it; `options` go to BaseServiceClient."""
    http_client = injected_client(kind)
    async with BaseServiceStub() as stub:
        base_url = f"http://{credentials}127.0.0.1:{stub.port}{path}"
        client = BaseServiceClient(base_url=base_url, http_client=http_client, **options)
        try:
            yield Service(stub, client)
        finally:
            await client.close()
            if http_client is not None:
                await http_client.aclose()
