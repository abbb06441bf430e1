"""What one process counts before the fleet is told."""

import pytest

from agent_service.domain.context import AttemptOutcome
from agent_service.telemetry.metrics import BOUNDS, Counted, Histogram, QueueName, Tally, WorkCounts

DEFAULT = QueueName("generation", "default")


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(-1, 0), (0, 0), (0.05, 0), (0.051, 1), (640, 13), (640.1, 14), (1e9, 14)]
)
def test_a_length_of_time_falls_into_the_first_bucket_that_is_not_below_it(
    seconds: float, bucket: int
) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [index for index, count in enumerate(histogram.counts) if count] == [bucket]
    assert len(histogram.counts) == len(BOUNDS) + 1
    assert (histogram.count, histogram.sum) == (1, max(seconds, 0))


def some_counts() -> WorkCounts:
    counts = WorkCounts()
    counts.count(Counted.CLAIMED, 3)
    counts.ended(AttemptOutcome.COMPLETED, waited=0.2, took=3)
    counts.ended(AttemptOutcome.COMPLETED, waited=0.3, took=4)
    counts.ended(AttemptOutcome.RETRYING, waited=0.1, took=0.5)
    return counts


def test_each_attempt_counts_once_by_how_it_ended() -> None:
    counts = some_counts()
    assert counts.attempts() == {AttemptOutcome.COMPLETED: 2, AttemptOutcome.RETRYING: 1}
    assert counts.waits.count == 3
    assert counts.waits.sum == pytest.approx(0.6)
    assert counts.durations[AttemptOutcome.COMPLETED].sum == 7


def test_what_is_taken_from_a_tally_is_counted_anew_from_nothing() -> None:
    tally = Tally()
    tally.of(*DEFAULT).count(Counted.CLAIM)
    tally.of("generation", "fast").count(Counted.CLAIM)
    tally.of(*DEFAULT).count(Counted.CLAIM)
    taken = {name: counts.events for name, counts in tally.take()}
    assert taken == {DEFAULT: {Counted.CLAIM: 2}, QueueName("generation", "fast"): {Counted.CLAIM: 1}}
    assert list(tally.take()) == []


def test_what_is_put_back_is_added_to_what_was_counted_meanwhile() -> None:
    tally = Tally()
    tally.of(*DEFAULT).add(some_counts())
    ((name, counts),) = tally.take()
    tally.of(*DEFAULT).add(some_counts())
    tally.put_back(name, counts)
    ((_, both),) = tally.take()
    assert both.events == {Counted.CLAIMED: 6}
    assert both.attempts() == {AttemptOutcome.COMPLETED: 4, AttemptOutcome.RETRYING: 2}
    assert both.waits.count == 6
