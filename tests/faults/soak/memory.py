"""Memory: whether a process that works for long grows without end."""

from collections.abc import Sequence
from dataclasses import dataclass

MEGABYTE = 1024 * 1024
#: Until then a process still loads, fills its pools and caches, and sees its first faults, in seconds.
WARM_UP = 60.0
#: Below this length nothing can be said, in seconds.
_SHORTEST = 600.0
#: Growing without end is this much, in the second half alone, at this pace: bytes, and bytes per second.
_GROWTH, _PACE = 8 * MEGABYTE, 0.5 * MEGABYTE / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Bytes after the warm-up and at the end, and bytes per second over all and in the second half."""

    first: int
    last: int
    pace: float
    late_pace: float
    seconds: float

    @property
    def without_end(self) -> bool:
        """Whether it is more than a generous bound, and does not become less."""
        if self.seconds < _SHORTEST:
            return False
        return self.late_pace * self.seconds / 2 > _GROWTH and self.late_pace > _PACE


def growth_of(samples: Sequence[tuple[float, int]]) -> Growth | None:
    """The growth over samples (second, bytes); None if there are too few after the warm-up."""
    warm = [sample for sample in samples if sample[0] >= WARM_UP] or list(samples)
    if len(warm) < 4:
        return None
    return Growth(
        first=warm[0][1],
        last=warm[-1][1],
        pace=_slope(warm),
        late_pace=_slope(warm[len(warm) // 2 :]),
        seconds=warm[-1][0] - warm[0][0],
    )


def _slope(samples: Sequence[tuple[float, int]]) -> float:
    """Least squares."""
    middle = sum(second for second, _ in samples) / len(samples)
    mean = sum(size for _, size in samples) / len(samples)
    spread = sum((second - middle) ** 2 for second, _ in samples)
    return sum((second - middle) * (size - mean) for second, size in samples) / spread if spread else 0.0
