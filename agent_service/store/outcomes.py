"""Outcomes: how an attempt's end is written, fenced by its lease token (protocol, rules 2, 4 and 9)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.line import Candidate
from agent_service.domain.stop import STOPS, stopped
from agent_service.domain.transitions import Transition, record_of
from agent_service.store.documents import error_document, record_document
from agent_service.store.driver import Database, Document, durable, update_once
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing

#: How many past attempts a context remembers.
HISTORY_LIMIT = 50
#: Outcomes that are written together have so many bytes at most; one alone may have more.
MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one attempt: the context as it was claimed, and where it goes."""

    context: Context
    transition: Transition
    #: About how many bytes it has, where that may be many.
    size: int = 0

    @property
    def token(self) -> str:
        """The token that fences the write."""
        return record_of(self.context, self.transition).token


class FencedUpdate(NamedTuple):
    """One update that applies only while the token in its filter holds the context."""

    filter: Document
    change: Document


class OutcomeCollection:
    """The collection `contexts`, as far as attempts end."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._database = database
        self._contexts = durable(database, "contexts")
        self._committed = durable(database, "contexts", read="majority")

    async def apply(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """
        Write all outcomes, each of another context, in one command; returns the ids of those contexts whose
        lease was lost meanwhile.

        Repeating it after a lost answer is safe: what was applied is recognised by its token in the history.
        Raises `StoreUnavailable`, `WriteOutcomeUnknown` or `UnstorableValue`.
        """
        updates = [
            update for outcome in outcomes for update in leaving_running(outcome.context, outcome.transition)
        ]
        # Unordered: an outcome must not wait behind one that does not match.
        statements = [{"q": update.filter, "u": update.change} for update in updates]
        with self._notifier.after(lambda: self._say(outcomes)), writing():
            matched = await update_once(self._database, "contexts", statements)
        if matched == len(outcomes):
            return frozenset()
        return await self._not_applied(outcomes)

    def _say(self, outcomes: Sequence[Outcome]) -> None:
        self._notifier.contexts_changed([outcome.context.id for outcome in outcomes])
        for outcome in outcomes:
            if not outcome.transition.terminal:
                _say_claimable(self._notifier, outcome.context, outcome.transition)

    async def _not_applied(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """Which of these outcomes are not in their context's history: their lease was lost."""
        ends = {outcome.context.id: outcome for outcome in outcomes}
        fields = ("history.token", "history.outcome", "history.ended_at")
        with reading():
            found = self._committed.find({"_id": {"$in": list(ends)}}, dict.fromkeys(fields, 1))
            applied = {
                document["_id"]
                async for document in found
                if any(_is_of(record, ends[document["_id"]]) for record in document.get("history", ()))
            }
        return frozenset(ends) - applied


def _is_of(record: Document, outcome: Outcome) -> bool:
    """Whether a line of the history was written by this very outcome, and not by the rescuer before it."""
    transition = outcome.transition
    if record["token"] != outcome.token or record["ended_at"] != transition.at:
        return False
    if record["outcome"] == AttemptOutcome.LEASE_LOST:
        return False
    # What would let the context run again may have become its end instead.
    return not transition.terminal or record["outcome"] == transition.outcome


def say_left_running(notifier: Notifier, context: Context, transition: Transition) -> None:
    """Tell of a context that is no longer running, and when it can be claimed anew if it can."""
    notifier.contexts_changed([context.id])
    _say_claimable(notifier, context, transition)


def _say_claimable(notifier: Notifier, context: Context, transition: Transition) -> None:
    if transition.status is ContextStatus.PENDING:
        notifier.work({context.line: [Candidate(context.id, context.rank)]})
    elif transition.status is ContextStatus.SCHEDULED and transition.run_at is not None:
        notifier.scheduled(transition.run_at)


def leaving_running(context: Context, transition: Transition) -> tuple[FencedUpdate, ...]:
    """
    The updates of which exactly one matches while the lease is still held.

    A move that would let the context run again is refused where its request's cancellation or deadline came
    first; a further update then ends it. The first one that matches takes the token away from the others.
    """
    record = record_of(context, transition)
    fence = {"_id": context.id, "status": ContextStatus.RUNNING.value, "lease.token": record.token}
    change = ending_update(transition, record_document(record))
    if transition.terminal:
        return (FencedUpdate(filter=fence, change=change),)
    unflagged = {stop.flag: {"$ne": True} for stop in STOPS}
    ends = [stopped(stop, at=transition.at, chunks=transition.chunks) for stop in STOPS]
    return (
        FencedUpdate(filter={**fence, **unflagged}, change=change),
        *(
            FencedUpdate(
                filter={**fence, stop.flag: True},
                change=ending_update(end, record_document(record_of(context, end))),
            )
            for stop, end in zip(STOPS, ends, strict=True)
        ),
    )


def ending_update(transition: Transition, record: Document) -> Document:
    """What a transition writes, and its record; the token goes into the history and the lease is cleared."""
    fields: Document = {"status": transition.status.value, "lease": None}
    terminal = transition.terminal
    if transition.error is not None or terminal:
        fields["error"] = error_document(transition.error)
    if transition.run_at is not None:
        fields["run_at"] = transition.run_at
    if terminal:
        fields["finished_at"] = transition.at
        fields["settled"] = False
    if transition.status is ContextStatus.COMPLETED:
        fields["output"] = transition.output
        fields["usage"] = transition.usage
    change: Document = {
        "$set": fields,
        "$push": {"history": {"$each": [record], "$slice": -HISTORY_LIMIT}},
    }
    if transition.refund:
        change["$inc"] = {"tries": -1}
    elif transition.outcome is AttemptOutcome.LEASE_LOST:
        change["$inc"] = {"leases_lost": 1}
    return change
