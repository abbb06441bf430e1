"""Digest: what is said together is said once, in small documents, and reads back as what it was."""

from collections.abc import Iterable
from datetime import timedelta

import bson
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.line import Candidate, Line
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


@given(waiting=st.dictionaries(A_KEY, st.integers(0, 2**53), min_size=1, max_size=100))
def test_work_is_named_with_its_line_and_rank_while_it_is_little(waiting: dict[str, int]) -> None:
    digest = Digest()
    line = Line("generation", "slow", 2, "acme")
    digest.wait(line, [Candidate(*each) for each in waiting.items()])
    [document] = digest.take("me")
    assert len(bson.encode(document)) <= 2_300
    said = read([document])
    assert {(each.key, each.line) for each in said} == {("generation", line)}
    named = {(each.context_id, each.rank) for each in said}
    if named != {(None, min(waiting.values()))}:
        assert named == set(waiting.items())
    else:
        assert len(waiting) > 32 or sum(map(len, waiting)) > 1_000


def test_of_work_in_many_lines_only_the_service_is_said() -> None:
    digest = Digest()
    for number in range(20):
        digest.wait(Line("generation", "default", 0, f"organization-{number}"), [Candidate("r.one", 1)])
    digest.wait(Line("analysis", "default", 0, "acme"), [Candidate("r.two", 2)])
    assert {(each.key, each.line) for each in read(digest.take("me"))} == {
        ("generation", None),
        ("analysis", None),
    }


def test_what_an_older_version_says_of_work_names_no_line() -> None:
    old = {"about": "work:generation", "queue": "slow", "ids": ["r.one"]}
    assert read([old]) == {Notification(topic=Topic.WORK, key="generation")}


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
    digest.add(about(Topic.STOP))
    digest.add(about(Topic.STOP), ["r.one"])
    assert read(digest.take("me")) == {Notification(topic=Topic.STOP)}


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
