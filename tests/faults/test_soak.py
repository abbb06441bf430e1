"""The soak in its reduced form: what MongoDB, workers, APIs and services break for each other under load."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.faults.soak.run import Soak, run_soak
from tests.faults.support.replica_set import ReplicaSet

pytestmark = pytest.mark.exhaustive

#: One of each place where it can break; their order, targets and lengths follow from the seed.
KINDS = (
    "API killed",
    "primary killed",
    "service unavailable",
    "worker killed",
    "worker replaced",
    "worker stopped",
)
#: Characters of the stories that a failure shows.
LONGEST_STORY = 30_000


def stories_in(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*-violations.txt"))[:LONGEST_STORY]


@pytest.mark.timeout(420)
async def test_mixed_faults_under_load_break_no_promise(
    replica_set: ReplicaSet, fault_database: str, tmp_path: Path
) -> None:
    soak = Soak(
        seed=3,
        length=timedelta(seconds=30),
        rate=4.0,
        sample_every=timedelta(seconds=3),
        kinds=KINDS,
        pauses=(0.5, 1.0),
        least_troubles=len(KINDS),
    )
    report = await run_soak(soak, replica_set, database=fault_database, folder=tmp_path, say=print)
    assert report.failures == [], f"{report.text()}\n{stories_in(tmp_path)}\nall of it is in {tmp_path}"
    assert set(report.troubles) == set(KINDS), report.text()
    assert report.counts["acknowledged"] >= 30, report.text()
    assert len(report.samples) >= 3, report.text()
