"""Programs whose wall clock is wrong by a fixed amount (Debian's libfaketime); monotonic time stays true."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.testing.moved_clock import faked_clock, find_faketime


def clock_offset(offset: timedelta) -> Mapping[str, str]:
    """
    The environment of a process whose wall clock is `offset` ahead (or behind, if negative).

    Fails the test where the library is missing: what it shows must not go untested unnoticed.
    """
    try:
        library = find_faketime()
    except LocalPartUnavailable as error:
        pytest.fail(str(error))
    return {**faked_clock(library), "FAKETIME": f"{offset.total_seconds():+.3f}s"}
