"""Webhook signatures as Standard Webhooks 1.0 has them: what a receiver knows a callback of ours by."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

_PREFIX = "whsec_"
#: Bytes of a secret, at least and at most.
_SHORTEST, _LONGEST = 24, 64


def read_secrets(text: str) -> tuple[bytes, ...]:
    """
    The secrets in a text, separated by spaces or commas, each `whsec_` and 24 to 64 bytes in base64.

    Raises `ValueError`, without any of the text, if one of them is not, or if there is none.
    """
    secrets = tuple(_read(word) for word in re.split(r"[\s,]+", text.strip()) if word)
    if not secrets:
        raise ValueError("there is no secret")
    return secrets


def signature_headers(
    secrets: Sequence[bytes], *, message_id: str, at: datetime, body: bytes
) -> Mapping[str, str]:
    """The three headers of a message that is sent now, signed with every secret."""
    timestamp = str(int(at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def _read(word: str) -> bytes:
    try:
        secret = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if not word.startswith(_PREFIX) or not _SHORTEST <= len(secret) <= _LONGEST:
        # Without the cause: it may hold a piece of the secret.
        raise ValueError("a secret is whsec_ and 24 to 64 bytes in base64") from None
    return secret
