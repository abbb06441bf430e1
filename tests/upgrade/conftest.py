"""
Fixtures of the tests with two versions: the previous release beside this tree, on the same database.

`previous_release` and `present_release` each start processes of their version in one fleet:

    async def test_…(previous_release: Release, present_release: Release, upgrade_fleet: Fleet) -> None:
        [old] = await upgrade_fleet.start(previous_release.role(worker_role()))
        [new] = await upgrade_fleet.start(present_release.role(worker_role()))

`Release.read` says how a version reads every document, and `differences` compares two of these. A test that
holds in both directions, upgrade and roll-back, takes `before` and `after` in place of the two.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support.fleet import Fleet
from tests.faults.support.recording_service import RecordingService
from tests.support.worker_tools import Raw
from tests.upgrade.support.release import Release, ReleaseMissing, pinned_commit, release_of, this_tree

#: What is on for every process, so that both versions write all kinds of documents.
SETTINGS: dict[str, Any] = {
    "api_require_keys": "true",
    "callback_allowed_hosts": "receiver.invalid",
    "callback_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "organization_max_open_requests": 100,
    "organization_submissions_per_minute": 1_000,
    # What a stopping worker cannot end, it soon hands back.
    "shutdown_grace_seconds": 1,
}


@dataclass(frozen=True, slots=True)
class Direction:
    """An upgrade or a roll-back."""

    before: Release
    after: Release


@pytest.fixture(scope="session")
def present_release() -> Release:
    """This tree."""
    return this_tree()


@pytest.fixture(scope="session")
def previous_release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """
    The wheel of the commit in `tests/upgrade/previous_release`, built from the history and unpacked.

    It is kept in pytest's cache by commit, and the processes of xdist share it. Fails where the history is
    missing.
    """
    try:
        release = release_of(pinned_commit(), request.config.cache.mkdir("previous_release"))
    except ReleaseMissing as error:
        pytest.fail(str(error), pytrace=False)
    release.check_origin(tmp_path_factory.mktemp("origin"))
    return release


@pytest.fixture(params=["upgrade", "roll-back"])
def direction(
    request: pytest.FixtureRequest, previous_release: Release, present_release: Release
) -> Direction:
    """From the previous release to this tree, and the other way round."""
    if request.param == "upgrade":
        return Direction(previous_release, present_release)
    return Direction(present_release, previous_release)


@pytest.fixture
def before(direction: Direction) -> Release:
    """The release that is there first."""
    return direction.before


@pytest.fixture
def after(direction: Direction) -> Release:
    """The release that comes beside it and stays."""
    return direction.after


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RecordingService]:
    """The base service of `upgrade_fleet`; it remembers its calls."""
    async with RecordingService(tmp_path / "calls.jsonl") as service:
        yield service


@pytest.fixture
async def upgrade_fleet(
    mongodb_uri: str, raw: Raw, service: RecordingService, tmp_path: Path
) -> AsyncIterator[Fleet]:
    """Processes of whichever release on one fresh database, with API keys, limits and callbacks."""
    async with Fleet(mongodb_uri, raw.name, service, tmp_path / "processes", **SETTINGS) as fleet:
        yield fleet
    await raw.client.drop_database(raw.name)


@pytest.fixture
async def frozen(raw: Raw) -> AsyncIterator[Raw]:
    """A second database, for a copy of the first one in which nothing changes any more."""
    yield raw.client[f"{raw.name}_frozen"]
    await raw.client.drop_database(f"{raw.name}_frozen")
