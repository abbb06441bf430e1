"""CallbackHosts: what happens to one host does not happen to the others."""

from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from agent_service.domain.errors import DestinationUnavailable
from agent_service.workers.callback_hosts import (
    FAILURES_BEFORE_REST,
    FIRST_REST,
    LONGEST_REST,
    SHORTEST_PAUSE,
    CallbackHosts,
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hosts(clock: Clock) -> CallbackHosts:
    return CallbackHosts(slots=2, clock=clock)


def fail(hosts: CallbackHosts, name: str, *, answered: bool = False) -> None:
    with pytest.raises(DestinationUnavailable, match="no luck"), hosts.turn(name):
        raise DestinationUnavailable("timeout", "no luck", answered=answered)


def refusal(hosts: CallbackHosts, name: str) -> DestinationUnavailable:
    with pytest.raises(DestinationUnavailable) as caught, hosts.turn(name):
        pytest.fail("nothing may begin here")
    return caught.value


def succeed(hosts: CallbackHosts, name: str) -> None:
    with hosts.turn(name):
        pass


def silence(hosts: CallbackHosts, name: str) -> None:
    for _ in range(FAILURES_BEFORE_REST):
        fail(hosts, name)


def test_a_host_has_its_slots_and_no_more(hosts: CallbackHosts) -> None:
    with ExitStack() as calls:
        for _ in range(2):
            calls.enter_context(hosts.turn("slow.example"))
        assert refusal(hosts, "slow.example").code == "host_busy"
        succeed(hosts, "other.example")
    succeed(hosts, "slow.example")


def test_what_waits_for_a_slow_host_comes_again_at_its_pace(hosts: CallbackHosts, clock: Clock) -> None:
    for _ in range(50):
        with hosts.turn("slow.example"):
            clock.seconds += 8
    with hosts.turn("slow.example"), hosts.turn("slow.example"):
        pauses = [refusal(hosts, "slow.example").retry_after for _ in range(200)]
    seconds = [pause.total_seconds() for pause in pauses if pause is not None]
    # Two slots, and eight seconds for each call.
    assert seconds[:3] == pytest.approx([4, 8, 12], abs=0.1)
    assert seconds[-1] == LONGEST_REST.total_seconds()


def test_what_waits_for_a_fast_host_comes_again_soon(hosts: CallbackHosts) -> None:
    for _ in range(50):
        succeed(hosts, "fast.example")
    with hosts.turn("fast.example"), hosts.turn("fast.example"):
        assert {refusal(hosts, "fast.example").retry_after for _ in range(50)} == {SHORTEST_PAUSE}


def test_a_host_that_answers_nobody_is_left_alone_and_the_others_are_not(
    hosts: CallbackHosts, clock: Clock
) -> None:
    silence(hosts, "dead.example")
    refused = refusal(hosts, "dead.example")
    assert (refused.code, refused.retry_after) == ("host_silent", FIRST_REST)
    succeed(hosts, "other.example")
    clock.seconds += FIRST_REST.total_seconds() - 1
    assert refusal(hosts, "dead.example").retry_after == timedelta(seconds=1)


def test_after_its_rest_one_call_tries_it_and_silence_doubles_the_next_rest(
    hosts: CallbackHosts, clock: Clock
) -> None:
    silence(hosts, "dead.example")
    rest = FIRST_REST
    for _ in range(8):
        clock.seconds += rest.total_seconds()
        with suppress(DestinationUnavailable), hosts.turn("dead.example"):
            assert refusal(hosts, "dead.example").code == "host_busy"
            raise DestinationUnavailable("timeout", "no luck")
        rest = min(rest * 2, LONGEST_REST)
        assert refusal(hosts, "dead.example").retry_after == rest
    assert rest == LONGEST_REST


def test_any_answer_shows_that_a_host_is_there(hosts: CallbackHosts, clock: Clock) -> None:
    for _ in range(2 * FAILURES_BEFORE_REST):
        fail(hosts, "busy.example", answered=True)
    silence(hosts, "back.example")
    clock.seconds += FIRST_REST.total_seconds()
    fail(hosts, "back.example", answered=True)
    with hosts.turn("back.example"):
        succeed(hosts, "back.example")


def test_of_very_many_hosts_only_those_are_remembered_that_are_called_or_rest(hosts: CallbackHosts) -> None:
    silence(hosts, "dead.example")
    with hosts.turn("slow.example"), hosts.turn("slow.example"):
        for number in range(3_000):
            succeed(hosts, f"h{number}.example")
        assert refusal(hosts, "slow.example").code == "host_busy"
    assert refusal(hosts, "dead.example").code == "host_silent"
    assert len(hosts._hosts) <= 1_000
