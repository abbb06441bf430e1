"""Topics: what a change rings, and that nobody is sent what nobody waits for."""

from typing import Any

import pytest

from agent_service.store.doorbell_topics import Ring, Topic, pipeline_for, rings_of
from tests.support.contexts import NOW


def change(collection: str, document_id: str, **more: Any) -> dict[str, Any]:
    return {"ns": {"coll": collection}, "documentKey": {"_id": document_id}, **more}


def updated(**fields: Any) -> dict[str, Any]:
    return {"operationType": "update", "updateDescription": {"updatedFields": fields}}


def progress(context_id: str | None = "r.draft", *, is_chunk: bool = False) -> Ring:
    return Ring(topic=Topic.PROGRESS, key="r", context_id=context_id, is_chunk=is_chunk)


def work(**known: Any) -> Ring:
    return Ring(topic=Topic.WORK, context_id="r.draft", **known)


@pytest.mark.parametrize(
    ("what", "rung"),
    [
        (change("services", "generation"), [Ring(topic=Topic.SERVICES, key="generation")]),
        (
            change("requests", "r", **updated(status="failed")),
            [progress(None), Ring(topic=Topic.STATUS, key="r")],
        ),
        (change("events", "r.draft:1:1"), [progress(is_chunk=True)]),
        (
            change("contexts", "r.draft", **updated(cancel_requested=True)),
            [progress(), Ring(topic=Topic.STOP, key="r.draft")],
        ),
        (
            change("contexts", "r.draft", **updated(deadline_passed=True)),
            [progress(), Ring(topic=Topic.STOP, key="r.draft")],
        ),
        (change("contexts", "r.draft", **updated(cancel_requested=False)), [progress()]),
        (change("contexts", "r.draft", **updated(status="pending", run_at=NOW)), [progress(), work()]),
        (
            change(
                "contexts",
                "r.draft",
                fullDocument={"status": "pending", "service": "analysis", "queue": "night", "run_at": NOW},
            ),
            [progress(), work(key="analysis", queue="night")],
        ),
        (
            change("contexts", "r.draft", **updated(status="scheduled", run_at=NOW, lease=None)),
            [progress(), Ring(topic=Topic.SCHEDULE, run_at=NOW)],
        ),
        (
            change("contexts", "r.draft", fullDocument={"status": "scheduled", "run_at": NOW}),
            [progress(), Ring(topic=Topic.SCHEDULE, run_at=NOW)],
        ),
        (
            change("contexts", "r.draft", **updated(status="running", lease={"lone": True})),
            [progress(), Ring(topic=Topic.TAKEN, key="r.draft")],
        ),
        (change("contexts", "r.draft", **updated(status="running", lease={})), [progress()]),
        (change("contexts", "r.draft", **updated(status="running")), [progress()]),
    ],
)
def test_a_change_rings_for_what_it_is_about(what: dict[str, Any], rung: list[Ring]) -> None:
    assert list(rings_of(what)) == rung


@pytest.mark.parametrize("topic", list(Topic))
def test_each_topic_adds_conditions_of_its_own_to_the_filter(topic: Topic) -> None:
    # The progress of requests includes their statuses.
    others = frozenset(Topic) - ({Topic.PROGRESS} if topic is Topic.STATUS else {Topic.STATUS})
    alone, without, together = (
        pipeline_for(topics)[0]["$match"]
        for topics in (frozenset({topic}), others - {topic}, others | {topic})
    )
    assert alone["$or"]
    assert alone["ns.coll"]["$in"]
    assert together != without
    assert set(alone["ns.coll"]["$in"]) <= set(together["ns.coll"]["$in"])


def test_who_waits_for_the_end_of_a_request_is_told_of_no_step() -> None:
    match = pipeline_for(frozenset({Topic.STATUS}))[0]["$match"]
    assert match["ns.coll"] == {"$in": ["requests"]}
    [condition] = match["$or"]
    assert condition == {"ns.coll": "requests", "updateDescription.updatedFields.status": {"$exists": True}}


def test_who_waits_for_work_is_told_of_contexts_alone_and_of_none_that_ends() -> None:
    match = pipeline_for(frozenset({Topic.WORK, Topic.SCHEDULE}))[0]["$match"]
    claimable = {"$in": ["pending", "scheduled"]}
    assert match == {
        "ns.coll": {"$in": ["contexts"]},
        "$or": [
            {"operationType": "insert", "fullDocument.status": claimable},
            {"updateDescription.updatedFields.status": claimable},
        ],
    }
