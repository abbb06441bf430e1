"""Contexts: inserted in order, those that exist left alone, and read as a majority has them."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pymongo.errors import ServerSelectionTimeoutError

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import StoreUnavailable, UnstorableValue, WriteOutcomeUnknown
from agent_service.store import Store
from agent_service.store import contexts as contexts_module
from agent_service.store.insertion import insert_all
from agent_service.store.notifier import Topic
from tests.support.claiming import claim_one
from tests.support.contexts import NOW, a_claim, a_context, ended_context, many_contexts, the_context
from tests.support.explained_commands import CommandRecorder, explain
from tests.support.fail_points import fragile_store
from tests.support.open_subscriptions import forget_later_looks


@pytest.mark.conformance
async def test_contexts_that_exist_are_left_alone_and_all_others_are_inserted(any_store: Store) -> None:
    contexts = [a_context(step, request_id="r") for step in ("one", "two", "three", "four")]
    await any_store.contexts.insert([contexts[0], contexts[2]])
    taken = [await claim_one(any_store, a_claim()) for _ in range(2)]
    await any_store.contexts.insert(contexts)
    found = {context.id: context for context in await any_store.contexts.of_request("r")}
    assert found == {
        contexts[1].id: contexts[1],
        contexts[3].id: contexts[3],
        **{context.id: context for context in taken if context is not None},
    }


async def test_inserting_nothing_sends_nothing(any_store: Store) -> None:
    await any_store.contexts.insert([])


async def test_only_the_contexts_of_the_request_are_read(any_store: Store) -> None:
    mine = [a_context(step, request_id="r-1") for step in ("a", "z_9")]
    others = [a_context(request_id=request_id) for request_id in ("r-10", "r-", "r-2", "q-1")]
    await any_store.contexts.insert([*others, *mine])
    assert sorted(await any_store.contexts.of_request("r-1"), key=lambda found: found.id) == mine


async def test_the_progress_leaves_out_what_is_large(any_store: Store) -> None:
    context = ended_context(output="large", input="large", metadata={"size": "large"})
    await any_store.contexts.insert([context])
    [found] = await any_store.contexts.progress([context.id, "none"])
    assert found == replace(context, output=None, input=None, metadata={})


async def test_outputs_are_those_of_the_named_steps_that_completed(any_store: Store) -> None:
    await any_store.contexts.insert(
        [
            ended_context("one", request_id="r", output={"text": "1"}),
            ended_context("two", request_id="r", output=None),
            ended_context("three", request_id="r", output="3"),
            ended_context("four", request_id="r", status=ContextStatus.FAILED),
            a_context("five", request_id="r"),
            ended_context("one", request_id="other", output="other"),
        ]
    )
    found = await any_store.contexts.outputs("r", ["one", "two", "four", "five", "six"])
    assert found == {"one": {"text": "1"}, "two": None}


async def test_json_that_looks_like_operators_and_references_comes_back_as_it_was(any_store: Store) -> None:
    schema = {"$ref": "#/definitions/a", "$id": "b", "type": "object"}
    value = {"schema": [schema], "$set": {"a.b": 1}, "": {"$": 2**62}, "a.$": -(2**63), "text": "$input"}
    context = ended_context(input=value, metadata=schema, output=value, usage=schema)
    await any_store.contexts.insert([context])
    assert await the_context(any_store, context) == context
    assert await any_store.contexts.outputs(context.request_id, ["draft"]) == {"draft": value}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 17_000_000, id="too large"),
        pytest.param(2**64, id="an integer over 64 bits"),
        pytest.param({"a\0b": 1}, id="NUL in a key"),
        pytest.param("\ud800", id="half a character"),
    ],
)
async def test_a_value_that_cannot_be_stored_is_told(any_store: Store, value: object) -> None:
    with pytest.raises(UnstorableValue):
        await any_store.contexts.insert([a_context(input=value)])


@pytest.mark.conformance
async def test_dates_come_back_aware_and_exact(any_store: Store) -> None:
    context = a_context()
    await any_store.contexts.insert([context])
    found = await the_context(any_store, context)
    assert found.created_at == NOW
    assert found.created_at.utcoffset() == NOW.utcoffset()


async def test_which_contexts_exist_is_read_from_keys_alone(
    recorded_store: Store, recorder: CommandRecorder, raw: Any
) -> None:
    contexts = many_contexts(20)
    await recorded_store.contexts.insert(contexts)
    recorder.sent.clear()
    ids = [context.id for context in contexts[5:8]]
    assert await recorded_store.contexts.existing([*ids, "gone"]) == set(ids)
    ((_, command),) = recorder.sent
    (plan,) = await explain(raw, command)
    assert plan.indexes == {"_id_"}
    assert plan.documents == 0
    assert await recorded_store.contexts.existing([]) == set()
    assert len(recorder.sent) == 1


async def test_once_something_was_sent_nobody_is_told_that_nothing_was_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [a_context(step, request_id="r") for step in ("one", "two", "three")]
    await store.contexts.insert([contexts[1]])
    rounds = 0

    async def insert_once(*arguments: Any, **options: Any) -> None:
        nonlocal rounds
        rounds += 1
        if rounds > 1:
            raise ServerSelectionTimeoutError("no primary")
        await insert_all(*arguments, **options)

    monkeypatch.setattr(contexts_module, "insert_all", insert_once)
    with store.notifier.subscribe(Topic.WORK, "generation") as work:
        assert await store.notifier.opened(timedelta(seconds=20))
        forget_later_looks(store)
        await work.wait(timedelta(0))
        with pytest.raises(WriteOutcomeUnknown):
            await store.contexts.insert(contexts)
        assert await work.wait(timedelta(0))
    assert rounds == 2
    assert await store.contexts.existing([context.id for context in contexts]) == {"r.one", "r.two"}


async def test_what_is_inserted_ahead_of_a_majority_is_acknowledged_by_the_primary_alone(
    recorded_store: Store, recorder: CommandRecorder, raw: Any
) -> None:
    contexts = [a_context(step, request_id="r") for step in ("one", "two")]
    recorder.sent.clear()
    assert not await recorded_store.contexts.insert(contexts, size=1_000, ahead=True)
    ((_, command),) = recorder.sent
    assert command["writeConcern"] == {"w": 1}
    assert await raw.contexts.count_documents({}) == 2


@pytest.mark.parametrize("trouble", ["one exists", "it fails", "it is not answered", "too large"])
async def test_what_cannot_be_inserted_ahead_is_inserted_as_usual(
    mongodb_uri: str, database_name: str, raw: Any, trouble: str
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        contexts = [a_context(step, request_id="r") for step in ("one", "two", "three")]
        if trouble == "one exists":
            await fragile.contexts.insert([contexts[1]])
        elif trouble == "it fails":
            await point.fail("insert", times=1, errorCode=14031)
        elif trouble == "it is not answered":
            await point.fail("insert", times=1, closeConnection=True)
        size = 9 * 1024 * 1024 if trouble == "too large" else 1_000
        assert await fragile.contexts.insert(contexts, size=size, ahead=True)
    assert set(await raw.contexts.distinct("step")) == {"one", "two", "three"}


async def test_nothing_is_inserted_ahead_when_it_is_too_late(store: Store, raw: Any) -> None:
    with pytest.raises(StoreUnavailable, match="too late"):
        await store.contexts.insert([a_context()], until=time.monotonic() - 1, ahead=True)
    assert await raw.contexts.count_documents({}) == 0
    assert await store.contexts.insert([], ahead=True)
