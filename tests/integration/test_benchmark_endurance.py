"""Tests of what the benchmark `endurance` measures: a steady load, and claims as the worker notes them."""

import asyncio
import time
from pathlib import Path

import pytest

from agent_service.store import Store
from agent_service.telemetry import fail_point
from benchmarks.claim_record import ClaimRecord, Recorded, Slice, read_record
from benchmarks.endurance import Course, submit_steadily
from benchmarks.noop_worker import RecordedWorker
from tests.support.waiting import until
from tests.support.worker_tools import Raw, running

pytestmark = pytest.mark.harness


async def test_a_steady_load_is_as_long_and_as_heavy_as_it_was_asked_for(store: Store, raw: Raw) -> None:
    began = time.monotonic()
    await submit_steadily(store, Course(rate=200, slices=3, seconds=0.5))
    assert time.monotonic() - began >= 1.5
    assert 270 <= await raw["contexts"].count_documents({}) <= 300


async def test_a_worker_notes_its_claims_and_its_calls(
    store: Store, raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ClaimRecord()
    monkeypatch.setattr(RecordedWorker, "record", record)
    file = tmp_path / "record.json"
    usual = fail_point.reach
    with record.recording():
        began = time.monotonic()
        async with running(RecordedWorker(store, concurrency=8)):
            await submit_steadily(store, Course(rate=100, slices=2, seconds=0.5))
            submitted = await raw["requests"].count_documents({})

            async def all_completed() -> bool:
                return await raw["requests"].count_documents({"status": "completed"}) == submitted

            completed: bool = await until(all_completed)
    assert completed
    assert fail_point.reach is usual
    record.write(file)
    found = read_record(file)
    assert len(found.called_at) == submitted
    assert len(found.claims) == len(found.claimed_at) > 1
    whole = await asyncio.to_thread(found.slices, began, seconds=time.monotonic() - began, number=1)
    assert whole[0].claim_ms > 0
    assert whole[0].rate > 0


def test_slices_tell_the_middle_claim_and_the_calls_per_second() -> None:
    recorded = Recorded(
        claimed_at=[10.0, 10.5, 11.9, 12.0, 13.0],
        claims=[0.001, 0.005, 0.002, 0.004, 0.004],
        called_at=[9.0, 10.0, 11.0, 13.9],
    )
    assert recorded.slices(10.0, seconds=2.0, number=2) == [
        Slice(claim_ms=2.0, rate=1.0),
        Slice(claim_ms=4.0, rate=0.5),
    ]
    with pytest.raises(RuntimeError, match="claimed nothing"):
        recorded.slices(10.0, seconds=2.0, number=3)
