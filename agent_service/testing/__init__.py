"""
For tests of programs that use agent_service, and for its own: `docs/testing.md` shows how.

The fixtures of pytest are in `agent_service.testing.fixtures`.
"""

from agent_service.testing.base_service import ScriptedBaseService
from agent_service.testing.behaviours import (
    after,
    answer,
    complete,
    delayed,
    drop_connection,
    echo,
    events,
    fail,
    hang,
    stream,
)
from agent_service.testing.calls import Behaviour, RecordedCall, Reply
from agent_service.testing.databases import emptied_store, empty_database
from agent_service.testing.idle import run_until_idle
from agent_service.testing.mongodb import temporary_mongod
from agent_service.testing.moved_clock import MovedClock, movable_mongod
from agent_service.testing.steps import wait_for_step
from agent_service.testing.upkeep import catch_up

__all__ = [
    "Behaviour",
    "MovedClock",
    "RecordedCall",
    "Reply",
    "ScriptedBaseService",
    "after",
    "answer",
    "catch_up",
    "complete",
    "delayed",
    "drop_connection",
    "echo",
    "emptied_store",
    "empty_database",
    "events",
    "fail",
    "hang",
    "movable_mongod",
    "run_until_idle",
    "stream",
    "temporary_mongod",
    "wait_for_step",
]
