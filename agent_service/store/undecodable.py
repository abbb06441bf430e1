"""What ends a context that cannot be decoded: nobody can work on it, and it must not wait or run for ever."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bson.dbref import DBRef
from loguru import logger

from agent_service.domain.context import ContextError, ContextStatus
from agent_service.domain.stop import DEADLINE, Stop
from agent_service.store.documents import SCHEMA, waiting_end
from agent_service.store.driver import Collection, Document
from agent_service.store.notifier import Notifier
from agent_service.store.operations import writing
from agent_service.store.paging import Odd
from agent_service.store.shapes import PLAIN
from agent_service.store.stored_fields import CONTEXT

CODE = "undecodable_context"
#: What a context may be in that nobody has changed since it was read.
_OPEN = (ContextStatus.PENDING.value, ContextStatus.RUNNING.value)
#: Fields with JSON in them, which the types of the fields say nothing of.
_JSON = ("input", "output", "metadata", "usage")


async def end_undecodable(
    contexts: Collection,
    notifier: Notifier,
    odd: Iterable[Odd],
    at: datetime,
    *,
    still: Mapping[str, Any] | None = None,
) -> list[str]:
    """
    End each as `failed` with `undecodable_context`, if nobody has claimed, renewed or ended it meanwhile.

    What a later version wrote is left to that one.
    Its odd fields get stand-ins, so that readers can decode it and its request can end. `still` is what must
    be true of it besides. Returns the ids of those that ended, to be settled. Raises `StoreUnavailable` or
    `WriteOutcomeUnknown`.
    """
    ended: list[str] = []
    for each in odd:
        document = each.document
        if document.get("status") not in _OPEN or is_of_later_version(document):
            continue
        fence = {field: {"$eq": document.get(field)} for field in ("_id", "status", "lease")}
        with writing():
            done = await contexts.update_one({**fence, **(still or {})}, {"$set": _end(each, at)})
        if done.matched_count:
            ended.append(document["_id"])
            if isinstance(document["_id"], str):
                notifier.contexts_changed([document["_id"]])
            logger.bind(context_id=document["_id"]).error("a context ended as undecodable: {}", each.error)
    return ended


def is_of_later_version(document: Document) -> bool:
    """Whether a version wrote it that knows more than this one, so that it is for that one to end."""
    schema = document.get("schema")
    return isinstance(schema, int) and schema > SCHEMA


def because_of(odd: Odd) -> Stop:
    """Why a request that cannot be decoded shall not go on."""
    error = ContextError(
        code=CODE, message=f"what is stored of the request cannot be read: {odd.error}", retryable=False
    )
    # There is no flag of its own: whoever works on one of its contexts hears of a deadline.
    return Stop(flag=DEADLINE.flag, status=ContextStatus.FAILED, error=error)


def _end(odd: Odd, at: datetime) -> Document:
    error = ContextError(
        code=CODE, message=f"what is stored of this step cannot be read: {odd.error}", retryable=False
    )
    return {**mended(odd.document, at), **waiting_end(ContextStatus.FAILED, error, at), "lease": None}


def mended(document: Document, at: datetime) -> Document:
    """
    What has to be set in a context so that it can be decoded, by field: a stand-in for each odd one.

    Its status, error, lease and end are up to the caller. An odd id cannot be mended.
    """
    document_id = document["_id"]
    if not isinstance(document_id, str):
        return {}
    no_json: Document = {name: None for name in _JSON if not _is_json(document.get(name))}
    ended = {"status": ContextStatus.FAILED.value, "lease": None, "error": None}
    return {**no_json, **CONTEXT.stand_ins({**document, **no_json, **ended}, document_id, at)}


def _is_json(value: object) -> bool:
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, str) or type(value) in PLAIN
