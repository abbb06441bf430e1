"""ApiKey: who may do what with the API; of its secret only a digest is known here."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

#: A key's text: a prefix that scanners for leaked secrets can find, the id, and 256 random bits.
_TEXT = re.compile(r"ask_live_(?P<id>[0-9a-f]{16})_(?P<secret>[0-9a-f]{64})")
KEY_ID = re.compile(r"[0-9a-f]{16}")
DIGEST = re.compile(r"[0-9a-f]{64}")
_ID_BYTES, _SECRET_BYTES = 8, 32
#: What a wrong secret is compared with where there is no key, so that this takes no less time.
_NO_DIGEST = "0" * 64

#: As it goes into headers and log lines: short, visible, without anything to escape.
ORGANIZATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LONGEST_NAME = 200


class Scope(StrEnum):
    """What a key lets its holder do; none of them includes another."""

    #: Submit requests, and retry ended ones.
    SUBMIT = "submit"
    #: See requests and their events.
    READ = "read"
    #: Cancel requests.
    CANCEL = "cancel"
    #: See what is of the whole service and of no organization: its workers and its metrics.
    ADMIN = "admin"


#: What a key may do where nothing else is said.
USUAL_SCOPES = frozenset({Scope.SUBMIT, Scope.READ, Scope.CANCEL})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored; `digest` is the SHA-256 of its secret, in hexadecimal digits."""

    id: str
    digest: str
    organization_id: str
    scopes: frozenset[Scope]
    created_at: datetime
    name: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    #: To within some minutes; None where nobody has used it, or it is kept in a file.
    last_used_at: datetime | None = None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedKey:
    """What somebody says is a key; the secret stays out of its text."""

    id: str
    digest: str


def make_key(
    organization_id: str,
    *,
    scopes: Collection[Scope] = USUAL_SCOPES,
    name: str = "",
    expires_at: datetime | None = None,
    now: datetime,
) -> tuple[ApiKey, str]:
    """A fresh key, and its text, which nobody can find out later."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    key = ApiKey(
        id=key_id,
        digest=_digest(secret),
        organization_id=organization_id,
        scopes=frozenset(scopes),
        created_at=now,
        name=name,
        expires_at=expires_at,
    )
    return key, f"ask_live_{key_id}_{secret}"


def read_key_text(text: str) -> PresentedKey | None:
    """The parts of a key's text; None if it does not look like one."""
    parts = _TEXT.fullmatch(text)
    return None if parts is None else PresentedKey(id=parts["id"], digest=_digest(parts["secret"]))


def is_genuine(presented: PresentedKey, key: ApiKey | None) -> bool:
    """Whether the secret is the key's; takes the same time for a wrong secret and for no key."""
    return (
        hmac.compare_digest(presented.digest, _NO_DIGEST if key is None else key.digest) and key is not None
    )


def _digest(secret: str) -> str:
    # With 256 random bits there is nothing to guess, so a slow digest would slow down us alone.
    return hashlib.sha256(secret.encode()).hexdigest()
