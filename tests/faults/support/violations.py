"""Violations: what the checker objects to, and the words that its parts share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.faults.support.history import Change, Document

ENDED = frozenset({"completed", "failed", "cancelled"})
RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """
    One rule that was broken.

    `rule` is I1…I9, or `expiry`, `key`, `chunks`, `order`; `concerns` is the id of a request or context, or
    empty; `evidence` is what shows it.
    """

    rule: str
    what: str
    concerns: str = ""
    evidence: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}" + (f" [{self.concerns}]" if self.concerns else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of a document that was there before and is there after it."""

    before: Document
    after: Document
    change: Change

    @property
    def claims(self) -> bool:
        """Whether an attempt began with it."""
        return bool(self.before["status"] != RUNNING and self.after["status"] == RUNNING)

    @property
    def ends_attempt(self) -> bool:
        """Whether an attempt ended with it."""
        return bool(self.before["status"] == RUNNING and self.after["status"] != RUNNING)

    def differs(self, *names: str) -> list[str]:
        """Which of these fields it changed."""
        return [name for name in names if self.before.get(name) != self.after.get(name)]


def steps_of(changes: Sequence[Change]) -> Iterator[Step]:
    """The changes of one document, each with the document before and after it."""
    for earlier, change in pairwise(changes):
        if earlier.document is not None and change.document is not None:
            yield Step(before=earlier.document, after=change.document, change=change)


def token_of(document: Document) -> str | None:
    """The token that holds a context."""
    lease = document.get("lease")
    return None if lease is None else lease["token"]


def last_record(document: Document) -> Document:
    """The last line of a context's history; empty if there is none."""
    history = document.get("history")
    return history[-1] if isinstance(history, list) and history else {}


def ended(document: Document) -> bool:
    """Whether a request or context has ended."""
    return document["status"] in ENDED
