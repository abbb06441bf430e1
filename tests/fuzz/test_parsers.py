"""Whatever comes from outside ends as a value or as a documented error, in a time that fits its size."""

import gc
import time

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

#: The largest body that the API takes by default; `make test` tries a fourth of it.
LARGEST = 2**20
#: What a machine with other things to do needs at most for the largest; if time grew with the square of the
#: size, a fourth of it would take many minutes.
LIMIT_SECONDS = 40.0

LARGE = [(target, index) for target in TARGETS for index in range(len(target.large))]


@pytest.mark.parametrize("examples", [25, pytest.param(100, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_takes_whatever_it_is_given(target: Target, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def check(value: object) -> None:
        target.check(value)

    check()


@pytest.mark.parametrize("size", [LARGEST // 4, pytest.param(LARGEST, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(("target", "index"), LARGE, ids=lambda item: getattr(item, "name", str(item)))
def test_a_large_input_takes_no_longer_than_its_size_says(target: Target, index: int, size: int) -> None:
    value = target.large[index](size)
    began = time.process_time()
    target.check(value)
    assert time.process_time() - began < LIMIT_SECONDS * size / LARGEST


#: Sizes that a header has at most.
HEADER = 2**15
#: Where a time could be that of anything, it is measured over so many calls.
LEAST_SECONDS = 0.01


@pytest.mark.parametrize(("target", "index"), LARGE, ids=lambda item: getattr(item, "name", str(item)))
def test_twice_the_input_takes_at_most_two_and_a_half_times_the_time(target: Target, index: int) -> None:
    make = target.large[index]
    ratios = []
    for _ in range(5):
        once, twice = (fastest(target, make(size)) for size in (HEADER, 2 * HEADER))
        ratios.append(twice / once)
        # A machine with other things to do is no reason to fail.
        if ratios[-1] <= 2.5:
            return
    pytest.fail(f"twice the input took {min(ratios):.1f} times the time")


def fastest(target: Target, value: object) -> float:
    """Processor seconds that one check takes, without what else the machine did meanwhile."""
    calls, spent = 1, 0.0
    while True:
        spent = min(timed(target, value, calls) for _ in range(3))
        if spent >= LEAST_SECONDS:
            return spent / calls
        calls *= 4


def timed(target: Target, value: object, calls: int) -> float:
    """Processor seconds of so many checks, without those of collecting garbage, which has more to look at."""
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        for _ in range(calls):
            target.check(value)
        return time.process_time() - began
    finally:
        gc.enable()
