"""BaseServiceClient: calls one base service, one HTTP request for one call."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from loguru import logger

from agent_service.base_services.address import ServiceAddress
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.base_services.concealing import conceal
from agent_service.base_services.exchange import Exchange, PreparedRequest
from agent_service.base_services.execute_protocol import ExecuteProtocol
from agent_service.base_services.http_client import HttpClient, open_client
from agent_service.base_services.json_body import dump_json
from agent_service.base_services.openai_protocol import OpenAIProtocol
from agent_service.base_services.protocol import ServiceProtocol
from agent_service.base_services.request_headers import build_headers
from agent_service.domain.errors import BaseServiceError, BaseServiceUnavailable, ConfigurationError
from agent_service.time_limit import TimeLimit

#: Bytes of an answer, decompressed, above which it is refused.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: Seconds that releasing a connection may take before it is left to itself.
RELEASE_SECONDS = 0.5


class BaseServiceClient:
    """
    The client of one base service.

    Without `http_client` it opens its own, with `concurrency` connections. An `httpx.AsyncClient` or
    `httpx2.AsyncClient` of the caller is used as it is, with its pool, proxies and authentication, and
    stays the caller's to close. Raises ConfigurationError for values that no call could work with.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None = None,
        protocol: str = "execute",
        model: str | None = None,
        concurrency: int = 10,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        http_client: HttpClient | None = None,
    ) -> None:
        if concurrency < 1 or max_answer_bytes < 1:
            raise ConfigurationError("the concurrency and the answer limit must be at least 1")
        self._address = ServiceAddress(base_url)
        self._secrets = [secret for secret in (api_key, *self._address.secrets) if secret]
        self._authorization = _bearer(api_key) or self._address.basic_authorization
        self._protocol = _find_protocol(protocol, model)
        self._max_answer_bytes = max_answer_bytes
        self._owned = http_client is None
        # Behind a handshake is a proxy or a provider: they keep their word, and a connection is worth more.
        self._keep_connections = self._protocol.keeps_connections or self._address.is_encrypted
        self._url = self._address.url(self._protocol.path)
        self._http_client = http_client or open_client(concurrency, keep_connections=self._keep_connections)
        self._left_behind: set[asyncio.Task[None]] = set()

    async def call(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """
        The whole answer; `on_delta` gets each piece of streamed text before the next is read.

        Raises BaseServiceUnavailable or BaseServiceRejected, and what `on_delta` itself raises. Ends within
        `call.timeout` whatever the service does. When cancelled, it closes the connection.
        """
        request = PreparedRequest(
            url=self._url,
            headers=build_headers(call, self._authorization, keep_connection=self._keep_connections),
            content=dump_json(self._protocol.request_body(call)),
            seconds=call.timeout.total_seconds(),
        )
        if request.seconds <= 0:
            raise self._timed_out(request, answered=False)
        outcome = await self._exchange(request, on_delta)
        if isinstance(outcome, BaseServiceAnswer):
            return outcome
        try:
            raise outcome
        finally:
            # Its traceback refers to this frame, which must not refer back to it.
            del outcome

    async def close(self) -> None:
        """Close the own HTTP client; one that the caller brought stays open."""
        for task in self._left_behind:
            task.cancel()
        if self._owned:
            await self._release(asyncio.create_task(self._close_http_client()), let_finish=True)

    async def _exchange(self, request: PreparedRequest, on_delta: OnDelta) -> BaseServiceAnswer | Exception:
        """The answer, or what to raise in its place."""
        exchange = Exchange(self._http_client, self._protocol, self._max_answer_bytes)
        if self._owned:
            # Our own client closes a connection without waiting for anything, so nothing can be left behind.
            limit = TimeLimit(timedelta(seconds=request.seconds))
            try:
                with limit:
                    await exchange.run(request, on_delta)
            except TimeoutError:
                if not limit.expired:
                    raise
        else:
            await self._run_apart(exchange, request, on_delta)
        return self._outcome(exchange, request)

    async def _run_apart(self, exchange: Exchange, request: PreparedRequest, on_delta: OnDelta) -> None:
        """Run in a task of its own what a client of the caller's does, which may take its time to close."""
        task = asyncio.create_task(exchange.run(request, on_delta))
        try:
            waited = {exchange.settled, task}
            await asyncio.wait(waited, timeout=request.seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not exchange.settled.done():
                task.result()  # cancelled from inside, by `on_delta`
        finally:
            await self._release(task, let_finish=exchange.settled.done())

    def _outcome(self, exchange: Exchange, request: PreparedRequest) -> BaseServiceAnswer | Exception:
        if not exchange.settled.done():
            return self._timed_out(request, answered=exchange.answered)
        outcome = exchange.take()
        if isinstance(outcome, BaseServiceError):
            conceal(self._secrets, outcome)
        return outcome

    def _timed_out(self, request: PreparedRequest, *, answered: bool) -> BaseServiceUnavailable:
        seconds = max(request.seconds, 0)
        message = f"the base service at {self._address} gave no whole answer in {seconds:.3g} s"
        return BaseServiceUnavailable("timeout", message, answered=answered)

    async def _release(self, task: asyncio.Task[None], *, let_finish: bool) -> None:
        """End the task of an exchange; one that does not end in time is left behind, and nobody waits."""
        if let_finish:
            await asyncio.wait({task}, timeout=RELEASE_SECONDS)
        if task.done():
            return
        task.cancel()
        await asyncio.wait({task}, timeout=RELEASE_SECONDS)
        if not task.done():
            self._left_behind.add(task)
            task.add_done_callback(self._left_behind.discard)
            logger.bind(service=str(self._address)).warning("a connection could not be closed in time")

    async def _close_http_client(self) -> None:
        with suppress(Exception):
            await self._http_client.aclose()


def _find_protocol(name: str, model: str | None) -> ServiceProtocol:
    if name == "execute":
        return ExecuteProtocol()
    if name == "openai":
        return OpenAIProtocol(model)
    raise ConfigurationError(f"the protocol of a base service is 'execute' or 'openai', not {name!r}")


def _bearer(api_key: str | None) -> str | None:
    if not api_key:
        return None
    if not all("!" <= character <= "~" for character in api_key):
        # Without the value: it is a secret.
        raise ConfigurationError("the API key of a base service must be visible ASCII, without spaces")
    return f"Bearer {api_key}"
