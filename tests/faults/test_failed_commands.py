"""Every kind of command that the store sends fails once, in every way; nothing is lost or done twice."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.domain.context import AttemptOutcome
from agent_service.store import Store, operations
from agent_service.store.operations import paced
from tests.faults.support.failing_commands import WRITE_COMMANDS, FailingCommands
from tests.faults.support.whole_life import WholeLife, unanswered_claims

#: What a run of a whole life is known to do, whatever else it does.
SURELY = {
    ("findAndModify", "contexts"),
    ("findAndModify", "requests"),
    ("find", "contexts"),
    ("find", "requests"),
    ("find", "events"),
    ("insert", "requests"),
    ("insert", "contexts"),
    ("insert", "events"),
    ("update", "contexts"),
    ("update", "requests"),
    ("update", "workers"),
    ("delete", "workers"),
    ("hello", "1"),
    ("createIndexes", "contexts"),
    ("aggregate", "1"),
}
#: Of these, what a worker sends when it stops.
AT_THE_STOP = {("delete", "workers")}
BLOCKED_MILLISECONDS = 700
MODES: dict[str, tuple[dict[str, Any] | None, int]] = {
    "the connection is closed once": ({"closeConnection": True}, 1),
    "the connection is closed twice": ({"closeConnection": True}, 2),
    "the disk is full": ({"errorCode": 14031}, 1),
    "the server shuts down": ({"errorCode": 11600}, 1),
    "the primary steps down": ({"errorCode": 189}, 1),
    "applied and not confirmed": ({"writeConcernError": {"code": 64, "errmsg": "timed out"}}, 1),
    "applied and the answer lost": (None, 1),
    "no answer in time": ({"blockConnection": True, "blockTimeMS": BLOCKED_MILLISECONDS}, 1),
}
#: The one that `make test` tries: everything is done, and nobody knows.
ALWAYS_TRIED = "applied and the answer lost"


@contextmanager
def short_limits() -> Iterator[None]:
    """No operation waits longer than the server blocks."""
    bounded = operations._bounded
    longest = timedelta(milliseconds=BLOCKED_MILLISECONDS - 200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "_bounded", lambda limit: bounded(min(limit, longest)))
        yield


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=() if mode == ALWAYS_TRIED else pytest.mark.exhaustive) for mode in MODES],
    ids=lambda mode: mode.replace(" ", "_"),
)
async def test_a_command_that_fails_loses_nothing_and_does_nothing_twice(
    mongodb_uri: str, store: Store, database_name: str, mode: str
) -> None:
    how, times = MODES[mode]
    app_name = f"failing-{uuid.uuid4().hex}"
    failing = FailingCommands(mongodb_uri, app_name, how, times=times)
    client = AsyncMongoClient[dict[str, Any]](
        mongodb_uri,
        appname=app_name,
        event_listeners=[failing],
        server_selector=paced,
        heartbeatFrequencyMS=500,
    )
    async with client, Store(client[database_name]) as fragile:
        wanted = surely_fails(applied=mode.startswith("applied"))

        def has_failed() -> bool:
            return wanted - AT_THE_STOP <= {kind[:2] for kind in failing.failed_kinds}

        life = WholeLife(fragile, store)
        with unanswered_claims() as unanswered:
            if mode == "no answer in time":
                with short_limits(), failing.active():
                    await life.run(has_failed=has_failed)
            else:
                with failing.active():
                    await life.run(has_failed=has_failed)
        failing.close()
        await life.check()
    assert wanted <= {kind[:2] for kind in failing.failed_kinds}
    for request_id in life.requests:
        for context in await store.contexts.of_request(request_id):
            for record in context.history:
                if record.token in unanswered:
                    assert record.outcome in (AttemptOutcome.RELEASED, AttemptOutcome.LEASE_LOST)
                    assert record.attempt not in life.attempts_called(context.id)


def surely_fails(*, applied: bool) -> set[tuple[str, str]]:
    """What a life surely sends and a mode makes fail; only a write can be applied."""
    return {pair for pair in SURELY if not applied or pair[0] in WRITE_COMMANDS}
