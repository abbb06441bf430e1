"""Tests of reading a worker's profile."""

import pytest

from benchmarks.worker_profile import Profile, part_of, shares_of

pytestmark = pytest.mark.harness

SITE = "/venv/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("file", "name", "part"),
    [
        (f"{SITE}/pymongo/asynchronous/pool.py", "send", "pymongo"),
        ("/anywhere/agent_service/workers/execution.py", "run", "agent_service.workers"),
        ("/anywhere/agent_service/context_manager.py", "finish", "agent_service.context_manager"),
        ("/usr/lib/python3.11/asyncio/events.py", "_run", "standard library"),
        ("~", "<method 'run_until_complete' of 'uvloop.loop.Loop' objects>", "event loop"),
        ("~", "<built-in method bson.encode>", "built in"),
    ],
)
def test_a_function_belongs_to_its_package(file: str, name: str, part: str) -> None:
    assert part_of((file, 1, name)) == part


def test_what_is_built_in_counts_for_who_called_it() -> None:
    pool = (f"{SITE}/pymongo/pool.py", 1, "send")
    client = (f"{SITE}/aiohttp/client.py", 1, "request")
    encode = ("~", 0, "<built-in method encode>")
    profile: Profile = {
        pool: (1, 1, 1.0, 5.0, {}),
        client: (1, 1, 2.0, 5.0, {}),
        encode: (4, 4, 7.0, 7.0, {pool: (3, 3, 6.0, 6.0), client: (1, 1, 1.0, 1.0)}),
    }
    shares = shares_of(profile)
    assert list(shares) == ["pymongo", "aiohttp"]
    assert shares["pymongo"] == pytest.approx(0.7)
    assert sum(shares.values()) == pytest.approx(1)


def test_nothing_has_no_shares() -> None:
    assert shares_of({}) == {}
