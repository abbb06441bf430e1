"""BaseServiceClient: calls one base service, one HTTP request for one call."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from loguru import logger

from agent_service.base_services.address import ServiceAddress
from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.base_services.exchange import Exchange, PreparedRequest
from agent_service.base_services.execute_protocol import ExecuteProtocol
from agent_service.base_services.http_client import HttpClient, open_client
from agent_service.base_services.json_body import dump_json
from agent_service.base_services.openai_protocol import OpenAIProtocol
from agent_service.base_services.protocol import ServiceProtocol
from agent_service.base_services.request_headers import build_headers
from agent_service.domain.errors import BaseServiceError, BaseServiceUnavailable, ConfigurationError

#: Bytes of an answer, decompressed, above which it is refused.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: A shorter API key is no secret; hiding it would spoil messages that merely contain the same letters.
SHORTEST_SECRET = 8
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
        self._authorization = _bearer(api_key) or self._address.basic_authorization
        self._secrets = _secrets_among(api_key, self._address.password, self._authorization)
        self._protocol = _find_protocol(protocol, model)
        self._max_answer_bytes = max_answer_bytes
        self._owned = http_client is None
        self._http_client = http_client or open_client(concurrency)
        self._left_behind: set[asyncio.Task[None]] = set()

    async def call(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """
        The whole answer; `on_delta` gets each piece of streamed text before the next is read.

        Raises BaseServiceUnavailable or BaseServiceRejected, and what `on_delta` itself raises. Ends within
        `call.timeout` whatever the service does. When cancelled, it closes the connection.
        """
        request = PreparedRequest(
            url=self._address.url(self._protocol.path),
            headers=build_headers(call, self._authorization),
            content=dump_json(self._protocol.request_body(call)),
            seconds=call.timeout.total_seconds(),
        )
        if request.seconds <= 0:
            raise self._timed_out(request, answered=False)
        exchange = Exchange(self._http_client, self._protocol, self._max_answer_bytes)
        task = asyncio.create_task(exchange.run(request, on_delta))
        try:
            waited: set[asyncio.Future[BaseServiceAnswer | Exception] | asyncio.Task[None]]
            waited = {exchange.settled, task}
            await asyncio.wait(waited, timeout=request.seconds, return_when=asyncio.FIRST_COMPLETED)
            return self._result(exchange, task, request)
        finally:
            await self._release(task, let_finish=exchange.settled.done())

    async def close(self) -> None:
        """Close the own HTTP client; one that the caller brought stays open."""
        for task in self._left_behind:
            task.cancel()
        if self._owned:
            await self._release(asyncio.create_task(self._close_http_client()), let_finish=True)

    def _result(
        self, exchange: Exchange, task: asyncio.Task[None], request: PreparedRequest
    ) -> BaseServiceAnswer:
        if not exchange.settled.done():
            if task.done():
                task.result()  # cancelled from inside, by `on_delta`
            raise self._timed_out(request, answered=exchange.answered)
        outcome = exchange.settled.result()
        if isinstance(outcome, BaseServiceError):
            _conceal(self._secrets, outcome)
        if isinstance(outcome, Exception):
            raise outcome
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


def _secrets_among(api_key: str | None, password: str | None, authorization: str | None) -> tuple[str, ...]:
    """What no message may show: key and password, and what is sent of them, without the word before it."""
    sent = authorization.partition(" ")[2] if authorization else None
    return tuple(
        secret
        for secret in dict.fromkeys((api_key, password, sent))
        if secret and len(secret) >= SHORTEST_SECRET
    )


def _conceal(secrets: Sequence[str], error: BaseServiceError) -> None:
    """Some services repeat the key that they refuse; what they say is stored and shown."""
    message = error.message
    for secret in secrets:
        message = _without_beginning(message.replace(secret, "***"), secret)
    if message != error.message:
        error.message = message
        error.args = (f"{error.code}: {message}",)


def _without_beginning(message: str, secret: str) -> str:
    """A message that was cut may end in the middle of a secret."""
    kept = message.removesuffix("…")
    if kept == message:
        return message
    for length in range(len(secret) - 1, SHORTEST_SECRET - 1, -1):
        if kept.endswith(secret[:length]):
            return f"{kept[:-length]}***…"
    return message
