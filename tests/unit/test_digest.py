"""Digest: what is said together is said once, in small documents, and reads back as what it was."""

from collections.abc import Iterable
from datetime import timedelta

import bson
from hypothesis import given
from hypothesis import strategies as st

from agent_service.store.driver import Document
from agent_service.store.notifier.digest import (
    CHUNKS,
    CONTEXTS,
    EVERYTHING,
    REQUESTS,
    Digest,
    about,
    abouts_for,
    notifications_of,
)
from agent_service.store.notifier.notification import Notification, Topic
from tests.support.contexts import NOW

A_KEY = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=40)
IDS = st.sets(st.tuples(A_KEY, A_KEY).map(".".join), min_size=1, max_size=300)


def read(documents: Iterable[Document]) -> set[Notification]:
    """What they say; nothing else may be in them."""
    said: set[Notification] = set()
    for document in documents:
        those = notifications_of(document)
        assert those is not None
        said.update(those)
    return said


@given(contexts=IDS, chunks=IDS)
def test_readers_hear_of_every_context_and_chunk(contexts: set[str], chunks: set[str]) -> None:
    digest = Digest()
    digest.add(CONTEXTS, contexts)
    digest.add(CHUNKS, chunks)
    documents = digest.take("me")
    assert not digest
    assert all(len(bson.encode(document)) <= 2_048 for document in documents)
    assert len(documents) <= 8
    if [document["about"] for document in documents] == [EVERYTHING]:
        assert sum(map(len, contexts | chunks)) > 8_000
        return
    named = {(each.context_id, each.is_chunk) for each in read(documents)}
    assert named == {(each, False) for each in contexts} | {(each, True) for each in chunks}


@given(ids=st.sets(A_KEY, min_size=1, max_size=100))
def test_work_is_named_while_it_is_little(ids: set[str]) -> None:
    digest = Digest()
    digest.add(about(Topic.WORK, "generation"), ids, queue="slow")
    [document] = digest.take("me")
    said = read([document])
    assert {each.key for each in said} == {"generation"}
    assert {each.queue for each in said} == {"slow"}
    assert {each.context_id for each in said} == (ids if len(ids) <= 32 else {None})


def test_what_a_request_is_said_of_need_not_be_said_of_its_contexts() -> None:
    digest = Digest()
    digest.add(CONTEXTS, ["r.one", "r.two", "other.one"])
    digest.add(CHUNKS, ["r.one", "r:1"])
    digest.add(REQUESTS, ["r"])
    said = {(each.topic, each.key, each.context_id) for each in read(digest.take("me"))}
    assert said == {
        (Topic.STATUS, "r", None),
        (Topic.PROGRESS, "r", None),
        (Topic.PROGRESS, "other", "other.one"),
    }


def test_of_several_times_the_first_is_said() -> None:
    digest = Digest()
    for seconds in (5, 1, 3):
        digest.schedule(NOW + timedelta(seconds=seconds))
    assert read(digest.take("me")) == {Notification(topic=Topic.SCHEDULE, run_at=NOW + timedelta(seconds=1))}


def test_once_something_unnamed_was_said_there_is_no_name_to_add() -> None:
    digest = Digest()
    digest.add(about(Topic.WORK, "generation"))
    digest.add(about(Topic.WORK, "generation"), ["r.one"])
    assert read(digest.take("me")) == {Notification(topic=Topic.WORK, key="generation")}


def test_what_nobody_can_read_means_everything() -> None:
    for document in ({}, {"about": 5}, {"about": "of a later version:x", "ids": ["r"]}):
        assert notifications_of(document) is None
    assert list(notifications_of({"about": "work:generation", "ids": [5, None], "queue": 7}) or ()) == [
        Notification(topic=Topic.WORK, key="generation")
    ]
    assert list(notifications_of({"about": "schedule", "run_at": "soon"}) or ()) == [
        Notification(topic=Topic.SCHEDULE)
    ]


def test_the_server_can_leave_out_what_concerns_another_service() -> None:
    wanted = abouts_for({Topic.WORK, Topic.TAKEN}, "generation")
    assert wanted is not None
    assert {"work", "work:generation", "taken:generation", EVERYTHING} <= wanted
    assert "work:analysis" not in wanted
    assert abouts_for({Topic.STOP, Topic.STATUS}, None) == frozenset({"stop", EVERYTHING})
    assert abouts_for({Topic.WORK}, None) is None
