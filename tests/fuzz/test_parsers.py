"""Whatever comes from outside ends as a value or as a documented error, in a time that fits its size."""

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
