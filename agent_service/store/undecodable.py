"""What ends a context that cannot be decoded: nobody can work on it, and it must not wait or run for ever."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from loguru import logger

from agent_service.domain.context import ContextError, ContextStatus
from agent_service.store.documents import waiting_end
from agent_service.store.driver import Collection, Document
from agent_service.store.operations import writing
from agent_service.store.paging import Odd
from agent_service.store.shapes import mended

CODE = "undecodable_context"
#: What a context may be in that nobody has changed since it was read.
_OPEN = (ContextStatus.PENDING.value, ContextStatus.RUNNING.value)


async def end_undecodable(
    contexts: Collection, odd: Iterable[Odd], at: datetime, *, still: Mapping[str, Any] | None = None
) -> list[str]:
    """
    End each as `failed` with `undecodable_context`, if nobody has claimed, renewed or ended it meanwhile.

    Its odd fields get stand-ins, so that readers can decode it and its request can end. `still` is what must
    be true of it besides. Returns the ids of those that ended, to be settled. Raises `StoreUnavailable` or
    `WriteOutcomeUnknown`.
    """
    ended: list[str] = []
    for each in odd:
        document = each.document
        if document.get("status") not in _OPEN:
            continue
        fence = {field: document.get(field) for field in ("_id", "status", "lease")}
        with writing():
            done = await contexts.update_one({**fence, **(still or {})}, {"$set": _end(each, at)})
        if done.matched_count:
            ended.append(document["_id"])
            logger.bind(context_id=document["_id"]).error("a context ended as undecodable: {}", each.error)
    return ended


def _end(odd: Odd, at: datetime) -> Document:
    error = ContextError(
        code=CODE, message=f"what is stored of this step cannot be read: {odd.error}", retryable=False
    )
    return {**mended(odd.document, at), **waiting_end(ContextStatus.FAILED, error, at), "lease": None}
