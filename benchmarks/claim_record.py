"""
Claim record: when a worker claimed, how long each claim took, and when its handler was called.

A worker writes it into a file at its end. Times are of the monotonic clock, which all processes of a machine
share, in seconds.
"""

import json
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from agent_service.telemetry import fail_point
from benchmarks.figures import percentile

#: The fail points that stand around every claim, whatever it is made of.
_SENDING, _ANSWERED = "claim.sending", "claim.answered"


class ClaimRecord:
    """What a worker with one claimer notes, in a few bytes for each claim and each call."""

    def __init__(self) -> None:
        self._sent = 0.0
        self._claimed_at, self._claims, self._called_at = array("d"), array("d"), array("d")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note every claim while the block runs."""
        with patch.object(fail_point, "reach", self._reach):
            yield

    def called(self) -> None:
        """The handler was called."""
        self._called_at.append(time.monotonic())

    def write(self, file: Path) -> None:
        """Put all of it into a file."""
        told = {
            "claimed_at": list(self._claimed_at),
            "claims": list(self._claims),
            "called_at": list(self._called_at),
        }
        file.write_text(json.dumps(told), encoding="utf-8")

    def _reach(self, name: str) -> None:
        if name == _SENDING:
            self._sent = time.monotonic()
        elif name == _ANSWERED:
            now = time.monotonic()
            self._claimed_at.append(now)
            self._claims.append(now - self._sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A piece of a run: how long the middle claim took, in milliseconds, and calls per second."""

    claim_ms: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a worker noted; `claims` are durations."""

    claimed_at: Sequence[float]
    claims: Sequence[float]
    called_at: Sequence[float]

    def slices(self, began: float, *, seconds: float, number: int) -> list[Slice]:
        """
        So many pieces of this length, one after the other.

        Raises RuntimeError where there was no claim in one of them.
        """
        found = []
        for start in (began + index * seconds for index in range(number)):
            end = start + seconds
            claims = [
                claim for at, claim in zip(self.claimed_at, self.claims, strict=True) if start <= at < end
            ]
            if not claims:
                raise RuntimeError("the worker claimed nothing for a while")
            calls = sum(start <= at < end for at in self.called_at)
            found.append(Slice(claim_ms=percentile(claims, 0.5) * 1_000, rate=calls / seconds))
        return found


def read_record(file: Path) -> Recorded:
    """What a worker has written into a file."""
    return Recorded(**json.loads(file.read_text(encoding="utf-8")))
