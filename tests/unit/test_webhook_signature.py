"""Signatures of callbacks, as the library of Standard Webhooks checks them."""

import base64
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from agent_service.domain.webhook_signature import read_secrets, signature_headers

OLD, RECENT = (f"whsec_{base64.b64encode(bytes([byte] * 32)).decode()}" for byte in (1, 2))
BODY = b'{"type":"request.completed"}'


def headers(*secrets: str, message_id: str = "r:callback") -> dict[str, str]:
    read = read_secrets(" ".join(secrets))
    return dict(signature_headers(read, message_id=message_id, at=datetime.now(UTC), body=BODY))


@pytest.mark.parametrize("known", [OLD, RECENT])
def test_while_secrets_are_changed_a_receiver_needs_either(known: str) -> None:
    signed = headers(RECENT, OLD)
    assert len(signed["webhook-signature"].split()) == 2
    assert Webhook(known).verify(BODY, signed) == json.loads(BODY)


def test_another_secret_body_or_id_does_not_fit() -> None:
    signed = headers(OLD)
    with pytest.raises(WebhookVerificationError):
        Webhook(RECENT).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY + b" ", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD).verify(BODY, {**signed, "webhook-id": "another:callback"})


@pytest.mark.parametrize("between", [" ", ",", ", ", "\n"])
def test_secrets_are_separated_by_spaces_or_commas(between: str) -> None:
    assert read_secrets(f" {OLD}{between}{RECENT}\n") == (b"\1" * 32, b"\2" * 32)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        OLD.removeprefix("whsec_"),
        "whsec_",
        "whsec_not base64",
        "whsec_****",
        f"whsec_{base64.b64encode(b'x' * 23).decode()}",
        f"whsec_{base64.b64encode(b'x' * 65).decode()}",
        f"{OLD} mistake",
    ],
)
def test_what_is_no_secret_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        read_secrets(text)
    assert str(caught.value) in {"there is no secret", "a secret is whsec_ and 24 to 64 bytes in base64"}
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
