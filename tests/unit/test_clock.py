"""ServerClock: as right as its best sample, on a clock that the test moves."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.clock import MAX_SAMPLE_AGE, ServerClock

START = datetime(2026, 1, 1, tzinfo=UTC)
LOCAL = datetime(2001, 1, 1, 0, 0, 0, 123_999, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
#: Seconds as floats become whole microseconds a few times on the way.
ROUNDING = timedelta(microseconds=4)


class World:
    """A server whose clock reads START at the monotonic time 0, plus `shift`, and a ServerClock."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.shift = timedelta(0)
        self.clock = ServerClock(lambda: self.moment, local=lambda: LOCAL)

    def server_time(self) -> datetime:
        return START + self.shift + timedelta(seconds=self.moment)

    def ask(self, there: float, back: float) -> None:
        """One question whose way there and back takes these seconds."""
        sent = self.moment
        self.moment += there
        answer = self.server_time()
        self.moment += back
        self.clock.observe(server_time=answer, sent=sent, received=self.moment)

    def error(self) -> timedelta:
        return abs(self.clock.now() - self.server_time())


seconds = st.floats(0, 5)


@given(trips=st.lists(st.tuples(seconds, seconds, st.floats(0, 30)), min_size=1, max_size=16))
def test_it_is_off_by_half_the_round_trip_of_a_recent_sample_at_most(
    trips: list[tuple[float, float, float]],
) -> None:
    world = World()
    asked: list[tuple[float, float]] = []
    for there, back, pause in trips:
        world.ask(there, back)
        asked.append((world.moment, there + back))
        # What is kept is at most twice as slow as the best of the last minute, and a millisecond.
        best = min(trip for at, trip in asked if world.moment - at <= MAX_SAMPLE_AGE)
        kept = timedelta(seconds=2 * best) + MILLISECOND
        assert world.error() <= kept / 2 + MILLISECOND + ROUNDING
        world.moment += pause


@given(there=seconds, back=seconds, later=st.floats(0, 10_000))
def test_one_sample_is_right_within_half_its_round_trip_however_long_ago(
    there: float, back: float, later: float
) -> None:
    world = World()
    world.ask(there, back)
    world.moment += later
    assert world.error() <= timedelta(seconds=(there + back) / 2) + ROUNDING + MILLISECOND


def test_before_any_sample_it_is_the_local_time_in_whole_milliseconds() -> None:
    clock = World().clock
    assert clock.now() == LOCAL.replace(microsecond=123_000)
    assert not clock.measured


def test_the_time_is_in_utc_whatever_zone_the_sample_came_in() -> None:
    world = World()
    for zone in (timezone(timedelta(hours=5)), None):
        world.clock.reset()
        answer = START.astimezone(zone) if zone else START.replace(tzinfo=None)
        world.clock.observe(server_time=answer, sent=0.0, received=0.0)
        assert world.clock.now() == START
        assert world.clock.now().tzinfo is UTC


def test_a_slow_sample_is_dropped_and_a_good_one_taken() -> None:
    world = World()
    world.ask(0.002, 0.002)
    world.ask(2.0, 0.0)
    assert world.error() <= 2 * MILLISECOND
    world.ask(0.0, 0.004)
    assert timedelta(0) < world.error() <= 3 * MILLISECOND
    world.ask(0.002, 0.002)
    assert world.error() <= MILLISECOND


def test_samples_that_get_slower_and_slower_are_measured_against_the_best() -> None:
    world = World()
    trip = 0.004
    for _ in range(12):
        world.ask(0.0, trip)
        trip *= 1.9
    assert world.error() <= 6 * MILLISECOND


def test_a_slow_sample_is_taken_when_the_kept_one_is_old() -> None:
    world = World()
    world.ask(0.0, 0.0)
    # The two clocks drift apart by more than a slow sample is wrong, but not so much that it proves it.
    world.shift = timedelta(milliseconds=400)
    world.ask(0.5, 0.5)
    assert world.error() >= timedelta(milliseconds=400)
    world.moment += MAX_SAMPLE_AGE
    world.ask(0.5, 0.5)
    assert world.error() <= MILLISECOND


def test_a_slow_sample_that_proves_the_kept_one_wrong_is_taken() -> None:
    world = World()
    world.ask(0.0, 0.0)
    world.shift = timedelta(hours=-1)
    world.ask(0.5, 0.5)
    assert world.error() <= MILLISECOND


def test_after_a_change_of_the_primary_the_next_sample_wins() -> None:
    world = World()
    world.ask(0.0, 0.0)
    world.shift = timedelta(milliseconds=300)
    assert world.clock.measured
    world.clock.reset()
    states = [world.clock.measured]
    assert world.error() == timedelta(milliseconds=300)
    world.ask(0.5, 0.5)
    states.append(world.clock.measured)
    assert states == [False, True]
    assert world.error() <= MILLISECOND
