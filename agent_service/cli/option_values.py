"""Option values that are more than text: moments, and pairs of metadata."""

from collections.abc import Iterable
from datetime import UTC, datetime

from agent_service.domain.errors import ConfigurationError


def parse_moment(option: str, text: str | None) -> datetime | None:
    """A date and time of ISO 8601, in UTC unless it says otherwise. Raises ConfigurationError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        example = "2026-01-31T12:00:00Z"
        raise ConfigurationError(
            f"{option} must be a date and time such as {example}, not {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """Each KEY=VALUE as an entry. Raises ConfigurationError."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise ConfigurationError(f"{option} must be KEY=VALUE, not {text!r}")
        if key in pairs:
            raise ConfigurationError(f"{option} can be given once for each key; {key!r} is there twice")
        pairs[key] = value
    return pairs
