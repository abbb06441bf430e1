"""Programs whose wall clock is wrong by a fixed amount (Debian's libfaketime); monotonic time stays true."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

#: For programs with threads, which mongod and Python are.
_LIBRARY = "faketime/libfaketimeMT.so.1"


def clock_offset(offset: timedelta) -> Mapping[str, str]:
    """
    The environment of a process whose wall clock is `offset` ahead (or behind, if negative).

    Fails the test where the library is missing: what it shows must not go untested unnoticed.
    """
    found = sorted(Path("/usr/lib").glob(f"*/{_LIBRARY}")) or sorted(Path("/usr/lib").glob(_LIBRARY))
    if not found:
        pytest.fail(
            "clocks cannot be set apart: install the Debian package faketime (apt-get install faketime)"
        )
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{offset.total_seconds():+.3f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # It would keep the state that processes share in a semaphore, which a kill -9 leaves behind.
        "FAKETIME_NO_CACHE": "1",
    }
