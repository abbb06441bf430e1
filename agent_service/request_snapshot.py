"""Snapshot: what is stored of one request, as far as events tell of it, at one moment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent_service.context_manager import new_context
from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound
from agent_service.domain.events import Chunk, ChunkPage, Cursor, promised_chunks
from agent_service.domain.request import Request, context_id
from agent_service.store import Store
from agent_service.store.notifier.progress_subscription import Progress

#: So much of what an attempt streamed last is kept for those who are about to read it; one chunk at least.
_MOST_CHUNKS = 32
_MOST_CHARACTERS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestChunks:
    """All chunks of one attempt that were stored behind number `after` when they were read."""

    attempt: int
    after: int
    chunks: tuple[Chunk, ...] = ()

    @property
    def last(self) -> int:
        """The number of the last one."""
        return self.chunks[-1].seq if self.chunks else self.after

    def page(self, attempt: int, after: int) -> ChunkPage | None:
        """The chunks of an attempt behind number `after`; None where they do not reach back so far."""
        if attempt != self.attempt or after < self.after:
            return None
        return ChunkPage(chunks=tuple(chunk for chunk in self.chunks if chunk.seq > after))

    def grown(self, chunks: Collection[Chunk]) -> "LatestChunks":
        """These and those behind them, without the first ones where they are too many."""
        together = (*self.chunks, *chunks)[-_MOST_CHUNKS:]
        characters = 0
        for number, chunk in enumerate(reversed(together)):
            characters += len(chunk.delta)
            if number and characters > _MOST_CHARACTERS:
                together = together[-number:]
                break
        return replace(self, after=together[0].seq - 1, chunks=together)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step; `latest`, where there is any, was read after `context`."""

    context: Context
    latest: LatestChunks | None = None
    #: The number of the snapshot that brought the last change.
    changed_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Read in this order: the request, contexts, chunks; steps without a context are as planned."""

    request: Request
    views: Mapping[str, StepView] = field(default_factory=dict)
    number: int = 0

    @property
    def is_last(self) -> bool:
        """Whether nothing of the request will ever change again."""
        ended = sum(view.context.status.ended for view in self.views.values())
        return self.request.status.ended and ended == len(self.request.step_names)


class SnapshotReader:
    """Reads snapshots of one request, each upon the one before, so that little of it is read again."""

    def __init__(self, store: Store, request_id: str) -> None:
        self._store = store
        self._request_id = request_id

    async def read_new(self, cursor: Cursor) -> Snapshot:
        """One for a single reader, without what ended before its cursor. Raises what `read_next` does."""
        request = await self._request()
        names = [name for name in request.step_names if not cursor.is_at_end_of(name)]
        contexts = await self._contexts({context_id(request.id, name) for name in names})
        views = {
            context.step: StepView(context=context, changed_in=1)
            for context in (*_as_planned(request), *contexts)
            if context.step in names
        }
        return Snapshot(request=request, views=views, number=1)

    async def read_next(self, before: Snapshot | None, progress: Progress) -> Snapshot:
        """
        The snapshot after `before`, with what changed since.

        Raises `RequestNotFound` or `StoreUnavailable`.
        """
        if before is None or progress.everything:
            before = await self._renewed(before)
            named = {context_id(before.request.id, name) for name in before.request.step_names}
            wanted = named - {view.context.id for view in before.views.values() if view.context.status.ended}
            streaming = wanted
        else:
            wanted, streaming = progress.contexts, progress.contexts | progress.chunks
        number = before.number + 1
        views = dict(before.views)
        for context in await self._contexts(wanted):
            known = views.get(context.step)
            if known is None or known.context != context:
                latest = known.latest if known else None
                views[context.step] = StepView(context=context, latest=latest, changed_in=number)
        for name, view in list(views.items()):
            if view.context.id in streaming:
                views[name] = await self._with_latest(view, number)
        return Snapshot(request=before.request, views=views, number=number)

    async def _renewed(self, before: Snapshot | None) -> Snapshot:
        request = await self._request()
        if before is not None:
            return replace(before, request=request)
        views = {context.step: StepView(context=context, changed_in=1) for context in _as_planned(request)}
        return Snapshot(request=request, views=views)

    async def _with_latest(self, view: StepView, number: int) -> StepView:
        """The view with all chunks that are stored by now of the attempt that it has."""
        context, latest = view.context, view.latest
        if latest is None or latest.attempt != context.attempt:
            if not context.attempt or context.status.ended:
                return replace(view, latest=None)
            stored = await self._store.chunks.count(context.id, context.attempt)
            latest = LatestChunks(attempt=context.attempt, after=stored)
            return replace(view, latest=latest, changed_in=number)
        while True:
            page = await self._store.chunks.read(context.id, context.attempt, after=latest.last)
            if page.chunks:
                latest = latest.grown(page.chunks)
            if page.complete:
                break
        if latest.last < promised_chunks(context):
            # A new primary may be behind the one that told of the end.
            return replace(view, latest=None)
        return view if latest is view.latest else replace(view, latest=latest, changed_in=number)

    async def _request(self) -> Request:
        request = await self._store.requests.progress(self._request_id)
        if request is None:
            raise RequestNotFound(self._request_id)
        return request

    async def _contexts(self, ids: Collection[str]) -> Sequence[Context]:
        return await self._store.contexts.progress(ids) if ids else ()


def _as_planned(request: Request) -> Sequence[Context]:
    """How the steps of a request begin, for those whose contexts are not inserted yet."""
    if request.retry_of is None and not request.status.ended:
        return [new_context(request, step) for step in request.submission.steps]
    return ()
