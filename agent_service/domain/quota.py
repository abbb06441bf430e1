"""Quota: how much one organization may ask for; both limits are off unless somebody sets them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What each organization may have; None is no limit."""

    #: Requests that have not ended.
    max_open_requests: int | None = None
    #: Requests that are taken in a minute; after a pause so many may come at once.
    submissions_per_minute: int | None = None

    @property
    def limits_anything(self) -> bool:
        """Whether there is anything to count."""
        return self.max_open_requests is not None or self.submissions_per_minute is not None
