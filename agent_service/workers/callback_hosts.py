"""CallbackHosts: keeps one receiver that is slow or broken from taking the slots of all others."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.errors import DestinationUnavailable

#: After so many deliveries in a row that got no answer, a host is left alone.
FAILURES_BEFORE_REST = 3
#: How long at first, and at most; doubled with every further one.
FIRST_REST, LONGEST_REST = timedelta(seconds=10), timedelta(minutes=5)
#: When a delivery comes again that finds all slots of its host taken, at least.
SHORTEST_PAUSE = timedelta(seconds=1)
#: The share of the latest call in what is known of how long the calls of a host take.
_LATEST = 0.2
#: So many hosts are remembered before those are forgotten about which there is nothing to know.
_MANY_HOSTS = 1_000
_LARGEST_EXPONENT = 10


@dataclass(slots=True)
class _Host:
    calls: int = 0
    #: Deliveries in a row without an answer.
    silent: int = 0
    #: Monotonic seconds until which nobody calls it.
    rests_until: float = 0.0
    #: How long its calls took lately.
    seconds: float = 1.0
    #: Monotonic seconds at which those that were put back will have had their turn.
    booked_until: float = 0.0


class CallbackHosts:
    """
    What this process knows of the hosts that it delivers to.

    Each has `slots` calls at a time at most, and one alone while it answers nobody. A delivery that must not
    begin is put back, and no try is used. What waits for a slow host comes again at the pace of that host, so
    that a long queue for it is not claimed over and over.
    """

    def __init__(self, *, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """
        A call of this host, within the block.

        Raises DestinationUnavailable where it must not begin now; any answer shows that the host is there.
        """
        host = self._find(name)
        self._check(host, name)
        host.calls += 1
        began = self._clock()
        try:
            yield
        except DestinationUnavailable as error:
            if error.answered:
                host.silent = 0
            else:
                self._note_silence(host)
            raise
        else:
            host.silent = 0
        finally:
            host.calls -= 1
            host.seconds += (self._clock() - began - host.seconds) * _LATEST

    def _check(self, host: _Host, name: str) -> None:
        now = self._clock()
        rest = host.rests_until - now
        if rest > 0:
            raise DestinationUnavailable(
                "host_silent",
                f"{name} did not answer lately and is left alone for a while",
                retry_after=timedelta(seconds=rest),
            )
        slots = 1 if host.silent >= FAILURES_BEFORE_REST else self._slots
        if host.calls >= slots:
            latest = now + LONGEST_REST.total_seconds()
            host.booked_until = min(max(host.booked_until, now) + host.seconds / slots, latest)
            raise DestinationUnavailable(
                "host_busy",
                f"{name} is being called as often as it may be",
                retry_after=max(timedelta(seconds=host.booked_until - now), SHORTEST_PAUSE),
            )

    def _note_silence(self, host: _Host) -> None:
        host.silent += 1
        exponent = min(host.silent - FAILURES_BEFORE_REST, _LARGEST_EXPONENT)
        if exponent >= 0:
            rest = min(FIRST_REST * 2**exponent, LONGEST_REST)
            host.rests_until = self._clock() + rest.total_seconds()

    def _find(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= _MANY_HOSTS:
                self._forget()
            self._hosts[name] = _Host()
        return self._hosts[name]

    def _forget(self) -> None:
        """Forget hosts that nobody calls and that are not resting."""
        now = self._clock()
        self._hosts = {n: host for n, host in self._hosts.items() if host.calls or host.rests_until > now}
