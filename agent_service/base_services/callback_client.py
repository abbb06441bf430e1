"""CallbackClient: delivers signed callbacks to addresses that clients named, and to no internal one."""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from agent_service.base_services.public_resolver import AddressRefusedError, Network, PublicResolver, Resolver
from agent_service.base_services.transport_errors import transport_error
from agent_service.domain.callback import CallbackRules, host_of
from agent_service.domain.errors import BaseServiceRejected, DestinationUnavailable
from agent_service.domain.retry_after import parse_retry_after
from agent_service.domain.webhook_signature import signature_headers

#: A receiver that asks for a longer pause is asked again after this one.
LONGEST_PAUSE, SHORTEST_PAUSE = timedelta(hours=4), timedelta(seconds=1)
#: Bytes of an answer that are taken from the network at most; none of its body is looked at.
_READ_BYTES = 16 * 1024
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One try to deliver a message; `id` is the same for all tries, `timeout` the limit of the whole call."""

    url: str
    id: str
    body: bytes
    timeout: timedelta


class CallbackClient:
    """
    One for each worker, from `open` to `close`.

    `resolver` says what addresses a name has, the system's if None; `tls` whom to trust. Nothing is taken
    from the environment, no redirect is followed, no connection is used twice.
    """

    def __init__(
        self,
        *,
        rules: CallbackRules,
        secrets: Sequence[bytes],
        allowed_networks: Sequence[Network] = (),
        concurrency: int,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._secrets = tuple(secrets)
        self._networks = tuple(allowed_networks)
        self._concurrency = concurrency
        self._resolver = resolver
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Be ready to deliver; inside of the event loop, and the authorities take a moment to load."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._concurrency,
                resolver=PublicResolver(self._resolver or ThreadedResolver(), allowed=self._networks),
                use_dns_cache=False,
                force_close=True,
                ssl=self._tls or ssl.create_default_context(),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
        )

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def deliver(self, delivery: Delivery) -> int:
        """
        Send a message; the status, 200 to 299, with which it was taken.

        Raises DestinationUnavailable for what may pass, and BaseServiceRejected for an address that must not
        be called or that is gone.
        """
        status, headers = await self._post(delivery)
        if 200 <= status < 300:
            return status
        if status == _GONE:
            raise BaseServiceRejected("gone", "the receiver answered 410: it wants no more callbacks here")
        raise DestinationUnavailable(
            "callback_refused",
            f"the receiver answered {status}",
            retry_after=_pause(headers),
            answered=True,
        )

    async def _post(self, delivery: Delivery) -> tuple[int, Mapping[str, str]]:
        """The status and the headers of the answer; its body is thrown away with the connection."""
        if self._session is None:
            raise DestinationUnavailable("not_open", "the client of callbacks is closed")
        try:
            async with self._session.post(
                self._checked(delivery.url),
                data=delivery.body,
                headers=self._headers(delivery),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=delivery.timeout.total_seconds()),
            ) as response:
                response.close()
                return response.status, response.headers
        except AddressRefusedError as error:
            raise DestinationUnavailable("address_refused", str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            found = transport_error(error, answered=False)
            said = found.message.replace("the base service", "the receiver")
            raise DestinationUnavailable(found.code, said) from error

    def _checked(self, url: str) -> URL:
        """
        The address, if it may be called as the configuration is now.

        An address that is written as a number would not be resolved at all, so the rules refuse it, and
        what is connected to must be what they have looked at.
        """
        problem = self._rules.problem(url)
        parsed = URL(url, encoded=True)
        if problem is None and (parsed.raw_host or "").lower() != host_of(url):
            problem = "cannot be read in only one way"
        if problem is not None:
            raise BaseServiceRejected("address_refused", f"the address {problem}")
        return parsed

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        signature = signature_headers(
            self._secrets, message_id=delivery.id, at=datetime.now(UTC), body=delivery.body
        )
        return {"Content-Type": "application/json", "User-Agent": "agent-service", **signature}


def _pause(headers: Mapping[str, str]) -> timedelta | None:
    """How long the receiver wants to be left alone, within limits."""
    asked = parse_retry_after(headers.get("Retry-After"), now=datetime.now(UTC), date=headers.get("Date"))
    return None if asked is None else min(max(asked, SHORTEST_PAUSE), LONGEST_PAUSE)
