"""Line: what waits for the same workers on behalf of the same organization, in the order of submission."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Line:
    """
    The pending contexts of one service, queue, priority and organization.

    They are claimed by `rank`, smaller first: the time of submission in microseconds since 1970.
    """

    service: str
    queue: str
    priority: float
    organization_id: str


def rank_at(submitted: datetime) -> int:
    """The rank of what was submitted then."""
    return int(submitted.timestamp() * 1_000_000)


class Candidate(NamedTuple):
    """A context that was pending when it was last heard of, by its id, and its rank in its line."""

    id: str
    rank: int
