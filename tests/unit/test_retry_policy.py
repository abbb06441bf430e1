"""RetryPolicy: full jitter below an exponential limit, for any number of tries."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.retry_policy import RetryPolicy, hold_for

durations = st.timedeltas(min_value=timedelta(0))


@given(tries=st.integers(), chance=st.floats(0, 1), base=durations, cap=durations)
def test_a_delay_is_never_negative_nor_above_the_cap(
    tries: int, chance: float, base: timedelta, cap: timedelta
) -> None:
    delay = RetryPolicy(base=base, cap=cap).delay(tries, lambda: chance)
    assert timedelta(0) <= delay <= cap


@pytest.mark.parametrize(
    ("tries", "seconds"), [(-5, 1), (0, 1), (1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (10**9, 300)]
)
def test_the_limit_doubles_with_each_try_up_to_the_cap(tries: int, seconds: int) -> None:
    policy = RetryPolicy()
    assert policy.delay(tries, lambda: 1.0) == timedelta(seconds=seconds)
    assert policy.delay(tries, lambda: 0.5) == timedelta(seconds=seconds / 2)
    assert policy.delay(tries, lambda: 0.0) == timedelta(0)


@pytest.mark.parametrize(
    ("asked", "held"), [(-5.0, 1.0), (0.0, 1.0), (1.5, 1.5), (900.0, 900.0), (901.0, 900.0), (1e9, 900.0)]
)
def test_a_hold_is_kept_between_a_second_and_a_quarter_of_an_hour(asked: float, held: float) -> None:
    assert hold_for(timedelta(seconds=asked)) == timedelta(seconds=held)
