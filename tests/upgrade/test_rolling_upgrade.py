"""Two versions on one database: what one has open the other ends, reads and cancels, both ways round."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent_service.client import AgentClient
from agent_service.domain.errors import IdempotencyConflict
from tests.faults.support.fleet import ENDED, Fleet, Role, api_role, worker_role
from tests.faults.support.recording_service import RecordingService
from tests.support.waiting import until
from tests.support.worker_tools import Raw
from tests.upgrade.support.differences import differences
from tests.upgrade.support.document_reader import READERS
from tests.upgrade.support.open_work import (
    CALLS,
    HOLD_SECONDS,
    LATER,
    STATUSES,
    SUBMISSIONS,
    OpenWork,
    submission,
)
from tests.upgrade.support.release import Release

pytestmark = pytest.mark.timeout(300)

#: Collections that the previous release does not know, each with why that does no harm.
NEW_COLLECTIONS: dict[str, str] = dict.fromkeys(
    ("notifications_work", "notifications_events"), "hints, which a version without them never reads"
)
#: What the present version reads otherwise, or no more: the end of a place in `differences`, and why.
CHANGED_FIELDS: dict[str, str] = {}
#: Statuses in which the other version finds contexts: all.
STANDING = {"pending", "scheduled", "blocked", "running", *ENDED}
CALLBACK_WORKER = Role(command=("worker", "callback"))


async def command(fleet: Fleet, release: Release, *words: str) -> str:
    """What a command of this release prints; it must succeed."""
    [process] = await fleet.start(release.role(Role(command=words)), ready=False)
    assert await process.ended() == 0, f"{words} of the {release} release: {process.output()}"
    return process.output()


async def indexes_of(raw: Raw) -> dict[str, Any]:
    """Every index with its definition, and since when it is there."""
    return {
        f"{name}/{index['name']}": (index["spec"], index["accesses"]["since"])
        for name in await raw.list_collection_names()
        async for index in await raw[name].aggregate([{"$indexStats": {}}])
    }


async def freeze(raw: Raw, frozen: Raw) -> None:
    """Copy everything as soon as contexts stand in every status; `frozen` has what one version wrote."""

    async def stand() -> bool | None:
        return set(await raw.contexts.distinct("status")) >= STANDING

    they_stand: bool = await until(stand, seconds=60)
    assert they_stand
    for name in ("contexts", *(set(await raw.list_collection_names()) - {"contexts"})):
        await (await raw[name].aggregate([{"$out": {"db": frozen.name, "coll": name}}])).to_list()


async def events_of(
    client: AgentClient, request_id: str, *, after: str | None = None
) -> list[dict[str, Any]]:
    """All events of a request to its end, with their ids."""
    stream = client.stream(request_id, after=after)
    return [{**event.raw, "type": event.type, "id": event.id} async for event in stream]


async def check_what_clients_see(old: AgentClient, new: AgentClient, work: OpenWork) -> None:
    """Either version answers for what was submitted to the other."""
    for name, fields in SUBMISSIONS.items():
        again = await new.submit(submission(name, **fields), idempotency_key=name)
        assert again.id == work.ids[name], f"the key of {name} made a second request in the other version"
    with pytest.raises(IdempotencyConflict):
        await new.submit(submission("ended"), idempotency_key="ended")
    await work.submit(new, "younger", "never")
    again = await old.submit(submission("never", queue=LATER), idempotency_key="never")
    assert again.id == work.ids["never"], "a key of the new version made a second request in the old one"
    for name in ("stopped", "unwanted"):
        await new.cancel(work.ids[name])
    await old.cancel(work.ids["never"])
    work.ids["retried"] = (await new.retry(work.ids["broken"])).id
    # Nobody works but the version that was there first.
    for name in ("stopped", "younger", "retried"):
        assert (await new.wait(work.ids[name])).status == STATUSES[name]


async def check_same_answers(old: AgentClient, new: AgentClient, work: OpenWork) -> None:
    """What has ended or waits is shown alike by both versions."""
    listed = [[item.id async for item in client.list()] for client in (old, new)]
    assert listed[0] == listed[1]
    assert sorted(listed[0]) == sorted(work.ids.values())
    for name in ("ended", "broken", "flaky", "dropped", "stopped", "waiting", "younger", "retried"):
        one, other = await old.get(work.ids[name]), await new.get(work.ids[name])
        assert list(differences(one.raw, other.raw)) == [], name
    told = await asyncio.gather(*(events_of(client, work.ids["long"]) for client in (old, new)))
    assert told[0] == told[1]
    half = len(told[0]) // 2
    rest = await events_of(new, work.ids["long"], after=told[0][half - 1]["id"])
    assert rest == told[0][half:], "a stream did not go on at the other version where it broke"


async def check_ends(client: AgentClient, work: OpenWork) -> None:
    """Every request has ended as it should, once, with no call too many."""
    for name, status in STATUSES.items():
        events = Counter([event["type"] for event in await events_of(client, work.ids[name])])
        request = await client.get(work.ids[name])
        assert request.status == status, name
        ends = sum(events[f"request.{end}"] for end in ENDED)
        assert ends == events[f"request.{status}"] == 1, (name, events)
        assert sum(events[f"step.{end}"] for end in ENDED) == len(request.steps), (name, events)
    calls = work.service.calls
    assert Counter(call.context_id.partition(".")[2] for call in calls) == CALLS
    held = next(call.started for call in calls if call.context_id == f"{work.ids['held']}.held")
    too_soon = [call.context_id for call in calls if held < call.started < held + HOLD_SECONDS - 0.1]
    assert too_soon == [], "the service was called while it was held"


async def check_documents(
    previous: Release, present: Release, uri: str, folder: Path, *databases: str
) -> None:
    """Each version reads every document in these databases, and both read the same."""
    readings = await asyncio.gather(
        *(release.read(uri, *databases, folder=folder) for release in (previous, present))
    )
    assert [reading["complaints"] for reading in readings] == [[], []]
    kinds: set[str] = set()
    for name in databases:
        old, new = (reading[name] for reading in readings)
        kinds |= {kind for kind, documents in new["documents"].items() if documents}
        assert new["unknown"] == [], "say in document_reader.py how the documents of these are read"
        assert set(old["unknown"]) <= NEW_COLLECTIONS.keys(), "say in NEW_COLLECTIONS why that does no harm"
        found = [
            difference
            for difference in differences(old["documents"], new["documents"])
            if not difference.split(": ")[0].endswith(tuple(CHANGED_FIELDS))
        ]
        assert found == [], "\n".join(found)
    assert kinds == READERS.keys(), "let the scenario write documents of every collection"


async def test_two_versions_share_the_work_and_either_can_go_on_alone(
    before: Release,
    after: Release,
    previous_release: Release,
    present_release: Release,
    upgrade_fleet: Fleet,
    service: RecordingService,
    raw: Raw,
    frozen: Raw,
    tmp_path: Path,
) -> None:
    fleet, work = upgrade_fleet, OpenWork(service)
    first, printed = await asyncio.gather(
        fleet.start(before.role(api_role()), before.role(worker_role())),
        command(fleet, before, "keys", "create", "acme"),
    )
    key = printed.split()[-1]
    async with AgentClient(first[0].url, api_key=key) as old:
        await work.begin(old)
        await freeze(raw, frozen)
        indexes = await indexes_of(raw)

        second = await fleet.start(after.role(api_role()), after.role(CALLBACK_WORKER))
        async with AgentClient(second[0].url, api_key=key) as new:
            doctors = asyncio.gather(*(command(fleet, each, "doctor", "--fix") for each in (before, after)))
            await check_what_clients_see(old, new, work)
            work.go_on.set()
            await check_same_answers(old, new, work)
            second += await fleet.start(after.role(worker_role(queues=("default", LATER))))

            assert all("problem" not in found for found in await doctors)

            for process in first:
                process.terminate()
            assert [await process.ended() for process in first] == [0, 0]
            await fleet.wait_until_ended(work.ids.values())
            await check_ends(new, work)
            await callbacks_are_tried(raw, work)
    found = await indexes_of(raw)
    fought_over = [name for name, index in indexes.items() if found.get(name) != index]
    assert fought_over == [], "an index was dropped or built again"
    for process in second:
        process.terminate()
    assert [await process.ended() for process in second] == [0, 0, 0]
    assert [line for line in fleet.logs() if line.get("level") in ("ERROR", "CRITICAL")] == []
    await check_documents(previous_release, present_release, fleet.uri, tmp_path, frozen.name, fleet.database)


async def callbacks_are_tried(raw: Raw, work: OpenWork) -> None:
    """Until the one callback of each request that wants one has been tried by the version that stays."""
    wanted = {work.ids[name] for name in ("ended", "waiting")}

    async def tried() -> bool | None:
        found = await raw.contexts.find({"service": "callback"}, {"request_id": 1, "history": 1}).to_list()
        assert len(found) <= len(wanted)
        return {document["request_id"] for document in found if document["history"]} == wanted

    all_tried: bool = await until(tried, seconds=60)
    assert all_tried
