"""
A base service that misbehaves: each of its calls ends in time, with what it is charged and an error that says
why, and those who ask the same service for something that it does well do not notice.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds, Call, History
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import after, drip, reset, stream
from tests.faults.support.slots import assert_every_slot_is_free
from tests.faults.support.submissions import diamond, named
from tests.support.base_service_behaviours import (
    Behaviour,
    answer,
    cut,
    cut_body,
    events,
    gzip_bomb,
    hang,
    html,
    huge,
    redirect,
    trickle,
)
from tests.support.base_service_behaviours import stream as pieces

pytestmark = pytest.mark.timeout(300)

TRIES = 2
TIMEOUT = 4.0
SLOTS = 20
#: Nobody is to lose a lease here, however busy the machine is.
LEASE = 15
NEIGHBOURS = 60
#: What a worker may need above what it had before, however much it is sent.
MOST_MEMORY = 120 * 2**20
EVENTS = {"Content-Type": "text/event-stream"}
METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """
    One way to misbehave, and what an attempt that meets it ends with.

    `hangs_up` says that the worker ends the call, and not the service.
    """

    behaviour: Behaviour
    code: str
    calls: int = TRIES
    hangs_up: bool = False


TOO_SLOW = {
    "hangs": Bad(behaviour=hang(), code="timeout", hangs_up=True),
    "trickles": Bad(
        behaviour=trickle(b" ", every=0.2, headers={"Content-Type": "application/json"}),
        code="timeout",
        hangs_up=True,
    ),
    "drips": Bad(behaviour=drip(timedelta(seconds=0.2)), code="timeout", hangs_up=True),
    "stops": Bad(behaviour=events({"delta": "a"}, then=hang()), code="timeout", hangs_up=True),
}
BROKEN = {
    "resets": Bad(behaviour=reset(), code="connection_lost"),
    "resets_later": Bad(behaviour=stream("a", "b", then=reset()), code="connection_lost"),
    "cuts": Bad(behaviour=stream("a", "b", then=cut()), code="connection_lost"),
    "cuts_a_body": Bad(behaviour=cut_body(b'{"output": ', length=100), code="connection_lost"),
    "ends": Bad(behaviour=events({"delta": "a"}), code="incomplete_answer"),
    "talks_ssh": Bad(behaviour=cut(b"SSH-2.0-OpenSSH_9.6\r\n"), code="invalid_answer"),
    "shows_a_page": Bad(behaviour=html(), code="invalid_answer"),
    "babbles": Bad(behaviour=answer(body=b"\x00\xff{]", status=200), code="invalid_answer"),
}
TOO_MUCH = {
    "sends_a_gigabyte": Bad(behaviour=huge(2**30), code="answer_too_large", calls=1, hangs_up=True),
    "pings_for_ever": Bad(
        behaviour=pieces(repeat(b": still there" + b" " * 2000 + b"\n\n"), headers=EVENTS),
        code="answer_too_large",
        calls=1,
        hangs_up=True,
    ),
    "sends_a_bomb": Bad(behaviour=gzip_bomb(512 * 2**20), code="answer_too_large", calls=1),
    "streams_a_bomb": Bad(
        behaviour=gzip_bomb(512 * 2**20, content_type="text/event-stream"), code="answer_too_large", calls=1
    ),
    "fails_with_a_gigabyte": Bad(
        behaviour=pieces(repeat(b"x" * 65536, 2**14), headers={"Content-Type": "text/plain"}),
        code="invalid_answer",
        hangs_up=True,
    ),
}


def check(history: History, requests: Mapping[str, str], bad: Mapping[str, Bad]) -> None:
    """Each bad step failed with the error that it should have after the calls that it may cost."""
    found: dict[str, tuple[object, ...]] = {}
    wanted: dict[str, tuple[object, ...]] = {}
    for name, one in bad.items():
        context = history.final_contexts[f"{requests[name]}.{name}"]
        calls = calls_of(history, context["_id"])
        hung_up = {call.end for call in calls} == {"closed"}
        found[name] = (context["status"], context["error"]["code"], context["tries"], len(calls))
        wanted[name] = ("failed", one.code, one.calls, one.calls)
        assert hung_up or not one.hangs_up, name
        # Whoever reads it learns more than the code.
        assert len(context["error"]["message"]) > len("the base service "), name
    assert found == wanted


def calls_of(history: History, context_id: str) -> list[Call]:
    return [call for call in history.calls if call.context_id == context_id]


async def assert_unharmed(run: Scenario, neighbours: list[str]) -> None:
    """They completed, each with its first call."""
    assert set((await run.fleet.wait_until_ended(neighbours)).values()) == {"completed"}
    contexts = (await run.history()).final_contexts
    assert {contexts[f"{neighbour}.good"]["attempt"] for neighbour in neighbours} == {1}


@pytest.mark.exhaustive
@pytest.mark.parametrize("bad", [TOO_SLOW, BROKEN], ids=["too slow", "broken"])
async def test_what_does_not_answer_properly_fails_after_all_its_tries_and_its_neighbours_complete(
    bad: Mapping[str, Bad],
    replica_set: ReplicaSet,
    fault_database: str,
    service: RecordingService,
    tmp_path: Path,
) -> None:
    for name, one in bad.items():
        service.program(one.behaviour, step=name)
    variables: dict[str, Any] = {
        "generation_max_attempts": TRIES,
        "generation_timeout": TIMEOUT,
        "generation_concurrency": SLOTS,
        "generation_lease_seconds": LEASE,
    }
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": SLOTS})
        await run.fleet.start(api_role(), worker_role())
        # They outnumber the bad ones at any moment, so that the service as a whole counts as working.
        neighbours = await run.fleet.submit_many(named("good"), NEIGHBOURS)
        requests = {name: await run.fleet.submit(named(name)) for name in bad}
        neighbours += await run.fleet.submit_many(named("good"), NEIGHBOURS // 3)
        await assert_unharmed(run, neighbours)
        await run.fleet.wait_until_ended()
        check(await run.history(), requests, bad)
        await assert_every_slot_is_free(run, SLOTS)


@pytest.mark.exhaustive
async def test_what_is_sent_too_much_is_given_up_at_once_and_never_held_in_memory(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    for name, one in TOO_MUCH.items():
        service.program(one.behaviour, step=name)
    variables: dict[str, Any] = {
        "generation_max_attempts": TRIES,
        "generation_concurrency": SLOTS,
        "generation_lease_seconds": LEASE,
    }
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": SLOTS})
        _, worker = await run.fleet.start(api_role(), worker_role())
        await assert_unharmed(run, await run.fleet.submit_many(named("good"), SLOTS))
        before = worker.peak_resident_bytes()
        # One after the other, so that the most that one takes is not hidden behind that of many.
        requests = {}
        for name in TOO_MUCH:
            requests[name] = await run.fleet.submit(named(name))
            neighbours = await run.fleet.submit_many(named("good"), 3)
            await run.fleet.wait_until_ended([requests[name]])
            assert worker.peak_resident_bytes() - before < MOST_MEMORY, name
            await assert_unharmed(run, neighbours)
        check(await run.history(), requests, TOO_MUCH)
        await assert_every_slot_is_free(run, SLOTS)


async def test_a_redirect_is_followed_nowhere_and_refused_at_once(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    elsewhere = f"{service.url('elsewhere')}/execute"
    targets = {
        f"to_{'metadata' if to == METADATA else 'elsewhere'}_by_{status}": (to, status)
        for to in (METADATA, elsewhere)
        for status in (301, 302, 303, 307, 308)
    }
    bad = {name: Bad(behaviour=hang(), code="redirect_refused", calls=1) for name in targets}
    for name, (to, status) in targets.items():
        service.program(redirect(to, status=status), service="generation", step=name)
    async with scenario(
        replica_set, fault_database, service, tmp_path, generation_lease_seconds=LEASE
    ) as run:
        _, worker = await run.fleet.start(api_role(), worker_role())
        # They outnumber the bad ones, so that nobody takes the service as a whole for broken.
        neighbours = await run.fleet.submit_many(named("good"), 3 * len(bad))
        requests = {name: await run.fleet.submit(named(name)) for name in bad}
        await assert_unharmed(run, neighbours)
        await run.fleet.wait_until_ended()
        history = await run.history()
        check(history, requests, bad)
        assert {call.service for call in history.calls} == {"generation"}
        assert "169.254.169.254" not in worker.output()


@pytest.mark.exhaustive
async def test_a_service_that_comes_and_goes_loses_nothing(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    service.program(after(timedelta(milliseconds=100), stream("a ", "b ", every=timedelta(milliseconds=60))))
    # A step may meet it in its bad second each time.
    variables: dict[str, Any] = {"generation_max_attempts": 50, "generation_concurrency": 4}
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": 8})
        await run.fleet.start(api_role(), worker_role(), worker_role())
        for _ in range(3):
            submitting = asyncio.create_task(run.fleet.submit_many(diamond(), 4))
            await service.wait_for_calls(service.count + 1)
            await service.stop_listening()
            await submitting
            await service.listen_again()
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        assert any(call.end == "closed" for call in service.calls)
        await assert_every_slot_is_free(run, 8)
