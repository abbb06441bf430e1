"""Roster: which workers there are, as far as this process knows; a hint, and nothing is decided by it."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Colleague:
    """A worker that gave a sign of life a short while ago."""

    id: str
    service: str
    queues: frozenset[str]
    #: Its host and its number there; workers of one process have the same.
    process: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPlace:
    """Which one this process is of those that one supervising process has started for the same work."""

    number: int = 1
    of: int = 1


class Roster:
    """The workers of all processes; those of this one are known by `join`."""

    def __init__(self) -> None:
        #: What workers of this process tell in their signs of life.
        self.place = ProcessPlace()
        self._own: set[str] = set()
        self._present: tuple[Colleague, ...] = ()
        self._of: dict[tuple[str, str | None], tuple[str, ...]] = {}
        #: How many processes with workers are known.
        self.processes = 0

    def learn(self, present: Iterable[Colleague]) -> None:
        """These are all that are known."""
        self._present = tuple(present)
        self._of.clear()
        self.processes = len({one.process for one in self._present})

    def join(self, worker_id: str) -> None:
        """A worker of this process begins."""
        self._own.add(worker_id)

    def leave(self, worker_id: str) -> None:
        """A worker of this process ends."""
        self._own.discard(worker_id)

    def working_for(self, service: str, queue: str | None = None) -> tuple[str, ...]:
        """The ids of all workers of a service, or of those that take from this queue of it."""
        found = self._of.get((service, queue))
        if found is None:
            found = self._of[service, queue] = tuple(
                one.id
                for one in self._present
                if one.service == service and (queue is None or queue in one.queues)
            )
        return found

    @property
    def alone(self) -> bool:
        """Whether no worker of another process is known."""
        return all(one.id in self._own for one in self._present)
