"""Store world: the real store that the model is compared with, and how what is in it looks to the model."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.context_manager import ContextManager
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.replanner import Replanner
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from tests.faults.support.store_model import STOPS, ModelContext, StoreModel

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreWorld:
    """One store for all examples, on an event loop that runs only while something is asked of it."""

    uri: str
    runner: asyncio.Runner
    store: Store
    contexts: ContextManager
    rescuer: Rescuer
    replanner: Replanner
    raw: AsyncDatabase[dict[str, Any]]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this, and wait for it."""
        return self.runner.run(work)

    async def clear(self) -> None:
        """Nothing is stored."""
        for name in ("requests", "contexts", "events"):
            await self.raw[name].delete_many({})

    async def stored(self) -> dict[str, dict[str, Any]]:
        """Every request and context as the model would have it."""
        requests = await self.raw["requests"].find().to_list(None)
        contexts = await self.raw["contexts"].find().to_list(None)
        now = self.contexts.now()
        return {
            **{request["_id"]: _of_request(request) for request in requests},
            **{context["_id"]: _of_context(context, context["lease"], now) for context in contexts},
        }


@contextmanager
def store_world(uri: str, database: str) -> Iterator[StoreWorld]:
    """A prepared store on an empty database."""
    with asyncio.Runner() as runner:
        world = runner.run(_open_world(uri, database, runner))
        try:
            yield world
        finally:
            runner.run(world.store.close())
            runner.run(world.raw.client.close())


async def _open_world(uri: str, database: str, runner: asyncio.Runner) -> StoreWorld:
    store = Store.connect(uri, database=database)
    await store.prepare()
    contexts = ContextManager(store)
    # It waits for nothing, and backs off by nothing.
    rescuer = Rescuer(
        store,
        contexts,
        lease=timedelta(0),
        grace=timedelta(seconds=-5),
        backoff=RetryPolicy(base=timedelta(0)),
    )
    replanner = Replanner(store, contexts, young=timedelta(seconds=-5), between=timedelta(0))
    client = AsyncMongoClient[dict[str, Any]](uri, tz_aware=True)
    return StoreWorld(
        uri=uri,
        runner=runner,
        store=store,
        contexts=contexts,
        rescuer=rescuer,
        replanner=replanner,
        raw=client[database],
    )


def expected(model: StoreModel) -> dict[str, dict[str, Any]]:
    """The same of the model."""
    requests = {
        request.id: {
            "status": request.status,
            "planned": request.planned,
            "cancel_requested": request.cancel_requested,
            "finished": request.ended,
            "expires": request.ended,
        }
        for request in model.requests.values()
    }
    return {**requests, **{context.id: _expected(context) for context in model.contexts.values()}}


def _expected(context: ModelContext) -> dict[str, Any]:
    return {
        "status": context.status,
        "waiting_on": context.waiting_on if context.status == "blocked" else set(),
        "attempt": context.attempt,
        "tries": context.tries,
        "leases_lost": context.leases_lost,
        "token": context.token,
        "lease_over": context.token is not None and context.lease_over,
        "flags": context.flags,
        "settled": context.settled,
        "output": context.output,
        "history": context.history,
    }


def _of_request(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": document["status"],
        "planned": document["planned"],
        "cancel_requested": document["cancel_requested"],
        "finished": document["finished_at"] is not None,
        "expires": document["expires_at"] is not None,
    }


def _of_context(document: dict[str, Any], lease: dict[str, Any] | None, now: Any) -> dict[str, Any]:
    return {
        "status": document["status"],
        "waiting_on": set(document["waiting_on"]) if document["status"] == "blocked" else set(),
        "attempt": document["attempt"],
        "tries": document["tries"],
        "leases_lost": document["leases_lost"],
        "token": lease["token"] if lease else None,
        "lease_over": bool(lease) and lease is not None and lease["expires_at"] < now,
        "flags": {flag for flag in STOPS if document.get(flag)},
        "settled": document["settled"],
        "output": document["output"],
        "history": [(line["attempt"], line["token"], line["outcome"]) for line in document["history"]],
    }
