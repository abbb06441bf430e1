"""Topics: what a change rings, and that nobody is sent what nobody waits for."""

from typing import Any

import pytest

from agent_service.store.doorbell_topics import Topic, pipeline_for, rings_of


def change(collection: str, document_id: str, **more: Any) -> dict[str, Any]:
    return {"ns": {"coll": collection}, "documentKey": {"_id": document_id}, **more}


def updated(**fields: Any) -> dict[str, Any]:
    return {"operationType": "update", "updateDescription": {"updatedFields": fields}}


@pytest.mark.parametrize(
    ("what", "rung"),
    [
        (change("services", "generation"), [(Topic.SERVICES, "generation")]),
        (change("requests", "r", **updated(status="failed")), [(Topic.PROGRESS, "r")]),
        (change("events", "r.draft:1:1"), [(Topic.PROGRESS, "r")]),
        (
            change("contexts", "r.draft", **updated(cancel_requested=True)),
            [(Topic.PROGRESS, "r"), (Topic.STOP, "r.draft")],
        ),
        (
            change("contexts", "r.draft", **updated(deadline_passed=True)),
            [(Topic.PROGRESS, "r"), (Topic.STOP, "r.draft")],
        ),
        (change("contexts", "r.draft", **updated(cancel_requested=False)), [(Topic.PROGRESS, "r")]),
        (
            change("contexts", "r.draft", **updated(status="pending")),
            [(Topic.PROGRESS, "r"), (Topic.WORK, None)],
        ),
        (
            change("contexts", "r.draft", fullDocument={"status": "pending", "service": "analysis"}),
            [(Topic.PROGRESS, "r"), (Topic.WORK, "analysis")],
        ),
        (
            change("contexts", "r.draft", **updated(status="scheduled")),
            [(Topic.PROGRESS, "r"), (Topic.SCHEDULE, None)],
        ),
    ],
)
def test_a_change_rings_for_what_it_is_about(
    what: dict[str, Any], rung: list[tuple[Topic, str | None]]
) -> None:
    assert list(rings_of(what)) == rung


@pytest.mark.parametrize("topic", list(Topic))
def test_each_topic_adds_conditions_of_its_own_to_the_filter(topic: Topic) -> None:
    alone = pipeline_for(frozenset({topic}))[0]["$match"]["$or"]
    others = pipeline_for(frozenset(Topic) - {topic})[0]["$match"]["$or"]
    together = pipeline_for(frozenset(Topic))[0]["$match"]["$or"]
    assert alone
    assert not [condition for condition in alone if condition in others]
    assert len(together) == len(alone) + len(others)
