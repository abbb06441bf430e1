"""Secrets kept out of what is stored and shown: some services repeat the key that they refuse."""

from collections.abc import Iterable

from agent_service.domain.errors import BaseServiceError

#: A shorter text is no secret; hiding it would spoil messages that merely contain the same letters.
SHORTEST_SECRET = 8
#: A message may be cut inside a secret; so many of its characters are recognized, and fewer tell nothing.
_SHORTEST_PART = 4
_INSTEAD = "***"


def conceal(secrets: Iterable[str], error: BaseServiceError) -> None:
    """Take the secrets out of the error's message."""
    message = error.message
    # The longest first: one may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            message = _without_cut_secret(message.replace(secret, _INSTEAD), secret)
    if message != error.message:
        error.message = message
        error.args = (f"{error.code}: {message}",)


def _without_cut_secret(message: str, secret: str) -> str:
    if not message.endswith("…"):
        return message
    for length in range(len(secret) - 1, _SHORTEST_PART - 1, -1):
        part = f"{secret[:length]}…"
        if message.endswith(part):
            return message.removesuffix(part) + _INSTEAD
    return message
