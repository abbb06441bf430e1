"""Prepare: what the fixture `prepared` is."""

from collections.abc import Awaitable, Callable

from agent_service.store import Store

#: Prepares a store; where the test before left the database prepared, only its clock is read.
Prepare = Callable[[Store], Awaitable[None]]
