"""Webhook: a JSON document sent by POST to an address that the input names."""

import json
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Literal
from urllib.parse import urlsplit

import httpx2

from agent_service.domain.json_value import JsonValue
from agent_service.local.execute_contract import ExecuteProblem

#: A larger payload is refused.
PAYLOAD_LIMIT_BYTES = 1024 * 1024
TIMEOUT = timedelta(seconds=15)
#: 4xx that another try may turn into a success.
_TRANSIENT = frozenset({408, 425, 429})
_LONGEST_WAIT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOutput:
    """The receiver's status, always 2xx. Nothing else of its answer is read."""

    channel: Literal["webhook"] = "webhook"
    message_id: str
    status: int


def check_webhook_url(text: str) -> str:
    """The address itself, or ValueError: http or https, with a host, without a user or password."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or a password")
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise ValueError("must be ASCII without spaces and control characters; percent-encode them")
    _ = parts.port
    return text


class WebhookSender:
    """Sends payloads; loopback addresses are allowed, because this service runs on a laptop for its owner."""

    def __init__(self, *, timeout: timedelta = TIMEOUT) -> None:
        # A proxy from the environment is not used: it could not reach the loopback addresses meant here.
        self._client = httpx2.AsyncClient(
            timeout=timeout.total_seconds(), follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, url: str, payload: JsonValue, *, message_id: str) -> WebhookOutput:
        """
        Send the payload; the receiver can tell repetitions by `Idempotency-Key`, which is the message's id.

        Raises ExecuteProblem: 422 when the receiver refuses or redirects, 503 when another try may help.
        """
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        if len(body) > PAYLOAD_LIMIT_BYTES:
            raise ExecuteProblem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "payload_too_large",
                f"has {len(body)} bytes; at most {PAYLOAD_LIMIT_BYTES} are sent",
                pointer="/input/payload",
            )
        headers = {"Content-Type": "application/json", "Idempotency-Key": message_id}
        try:
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                status, retry_after = response.status_code, response.headers.get("Retry-After")
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise ExecuteProblem(
                HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", str(error), pointer="/input/url"
            ) from error
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ExecuteProblem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "webhook_unavailable",
                f"the receiver cannot be reached: {reason}",
            ) from error
        return _judge(status, retry_after, message_id)


def _judge(status: int, retry_after: str | None, message_id: str) -> WebhookOutput:
    if 200 <= status < 300:
        return WebhookOutput(message_id=message_id, status=status)
    detail = f"the receiver answered {status}"
    if status >= 500 or status in _TRANSIENT:
        raise ExecuteProblem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "webhook_unavailable",
            detail,
            retry_after=_read_wait(retry_after),
        )
    if 300 <= status < 400:
        detail += "; redirects are not followed, so name the final address"
    raise ExecuteProblem(HTTPStatus.UNPROCESSABLE_ENTITY, "webhook_refused", detail)


def _read_wait(retry_after: str | None) -> timedelta | None:
    """The seconds form only; a date is left to the back-off of the caller."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit():
        return None
    return min(timedelta(seconds=min(int(retry_after[:9]), 10**6)), _LONGEST_WAIT)
