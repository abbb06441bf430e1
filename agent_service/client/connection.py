"""Connection: calls of one API over HTTP, repeated while it does not answer; each must be safe to repeat."""

import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from urllib.parse import quote, urlsplit

import httpx2

from agent_service.client.answers import explain, passes
from agent_service.client.pace import Pace
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    ConfigurationError,
)
from agent_service.domain.json_value import JsonObject

#: Where the API key stands that is used when none is given.
API_KEY_VARIABLE = "AGENT_SERVICE_API_KEY"
#: A stream may be silent for longer than the server's ping interval.
STREAM_SILENCE_LIMIT = timedelta(seconds=60)

_VISIBLE = re.compile(r"[!-~]+")


class Connection:
    """The connections to one API; the key is sent with every call and shown to nobody."""

    def __init__(
        self, base_url: str, *, api_key: str | None, answer_limit: timedelta, patience: timedelta
    ) -> None:
        self._base_url = _checked(base_url)
        self._answer_limit = answer_limit
        self._patience = patience
        self._http = httpx2.AsyncClient(
            timeout=answer_limit.total_seconds(),
            headers=_authorization(api_key),
            # A reader holds a connection as long as it reads, and must not keep others from being answered.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            # Trust no proxy of the environment on the way to a loopback address.
            trust_env=not _is_local(self._base_url),
        )

    def __repr__(self) -> str:
        parts = urlsplit(self._base_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        request_id: str = "",
        patience: timedelta | None = None,
        held_back: timedelta = timedelta(0),
    ) -> httpx2.Response:
        """
        The answer of a call that was successful.

        `request_id` is what a 404 says is not there; `held_back` how long the API was asked to wait.
        """
        pace = Pace(self._patience if patience is None else patience)
        request = self._http.build_request(
            method,
            f"{self._base_url}{path}",
            json=body,
            headers=headers,
            params=parameters,
            timeout=(self._answer_limit + held_back).total_seconds(),
        )
        while True:
            try:
                with _translated():
                    answer = await self._http.send(request)
            except BaseServiceUnavailable as error:
                await pace.pause_or_raise(error)
                continue
            if answer.is_success:
                return answer
            await _pause_or_raise(pace, answer, explain(answer, request_id=request_id))

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: Mapping[str, str], request_id: str
    ) -> AsyncIterator[httpx2.Response]:
        """The answer of one call that was successful, to be read while the block runs; it is not repeated."""
        silence = STREAM_SILENCE_LIMIT.total_seconds()
        limits = httpx2.Timeout(self._answer_limit.total_seconds(), read=silence)
        with _translated():
            async with self._http.stream(
                "GET", f"{self._base_url}{path}", headers=headers, timeout=limits
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise explain(answer, request_id=request_id)
                yield answer


def path_of(request_id: str) -> str:
    """Where a request is found."""
    return f"/v1/requests/{quote(request_id, safe='')}"


async def _pause_or_raise(pace: Pace, answer: httpx2.Response, error: AgentServiceError) -> None:
    if not isinstance(error, BaseServiceUnavailable) or not passes(answer.status_code):
        raise error
    await pace.pause_or_raise(error)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn every error of the HTTP library into one of ours."""
    try:
        yield
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise BaseServiceUnavailable(
            "api_unavailable", f"the API does not answer ({type(error).__name__}: {error})"
        ) from error
    except (httpx2.InvalidURL, httpx2.HTTPError) as error:
        raise BaseServiceRejected("unusable_answer", f"{type(error).__name__}: {error}") from error


def _authorization(api_key: str | None) -> dict[str, str]:
    """Raises ConfigurationError, which does not show the key."""
    key = os.environ.get(API_KEY_VARIABLE, "").strip() if api_key is None else api_key
    if not key and api_key is None:
        return {}
    if not _VISIBLE.fullmatch(key):
        raise ConfigurationError(
            f"the API key (api_key, or {API_KEY_VARIABLE}) must be visible ASCII characters"
        )
    return {"Authorization": f"Bearer {key}"}


def _checked(base_url: str) -> str:
    """The address without trailing slashes. Raises ConfigurationError, which does not show a password."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "the address of the API must begin with http:// or https://, and name a host"
        )
    return base_url.rstrip("/")


def _is_local(address: str) -> bool:
    return urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")
