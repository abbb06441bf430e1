"""
Legal run: makes histories in which everything goes by the rules, step by step, without a database.

A test of the checker takes such a history as it is, and expects silence. Where a method takes arguments that
no rule allows, or with `update`, `show` and `delete`, it can break one thing, and expect to hear of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from tests.faults.support.history import Bounds, Call, Change, Document, History, Kill, Reading, Sample, Seen

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
_SERVICE = "generation"
_ENDS = {"completed": "completed", "failed": "failed", "retrying": "scheduled", "released": "pending"}


class LegalRun:
    """A database, a base service and a client that behave; each method is one thing that happens."""

    def __init__(self) -> None:
        self.now = BEGINNING
        self.documents: dict[str, dict[str, Document]] = {"requests": {}, "contexts": {}, "events": {}}
        self.changes: list[Change] = []
        self.calls: list[Call] = []
        self.killed: list[Kill] = []
        self.shown: dict[str, list[Seen]] = {}

    def pass_time(self, seconds: float = 1) -> None:
        self.now += timedelta(seconds=seconds)

    def submit(self, request_id: str, steps: Mapping[str, Sequence[str]], *, max_attempts: int = 3) -> None:
        """A request of these steps, name → what it waits for, is inserted and planned."""
        plan = [{"name": name, "after": list(after)} for name, after in steps.items()]
        request = {
            "_id": request_id,
            "status": "accepted",
            "planned": False,
            "steps": plan,
            "expires_at": None,
        }
        self._write("requests", request, "insert")
        for name, after in steps.items():
            context = {
                "_id": f"{request_id}.{name}",
                "request_id": request_id,
                "step": name,
                "status": "blocked" if after else "pending",
                "waiting_on": list(after),
                "idempotency_key": f"{request_id}.{name}",
                "run_at": self.now,
                "attempt": 0,
                "tries": 0,
                "max_attempts": max_attempts,
                "lease": None,
                "history": [],
                "output": None,
                "usage": None,
                "error": None,
                "settled": None,
                "finished_at": None,
                "expires_at": None,
            }
            self._write("contexts", context, "insert")
        self.update(request_id, planned=True)
        self.shown[request_id] = [Seen(type="request.accepted")]

    def claim(
        self, context_id: str, *, worker: str = "worker", token: str | None = None, skipping: int = 0
    ) -> None:
        """A worker claims it."""
        context = self.context(context_id)
        attempt = context["attempt"] + 1 + skipping
        token = token or f"{context_id}-{attempt}"
        lease = {"token": token, "worker": worker, "expires_at": self.now + LEASE}
        self.update(context_id, status="running", attempt=attempt, tries=context["tries"] + 1, lease=lease)
        self.show("step.running", context_id)

    def renew(self, context_id: str) -> None:
        """Its worker renews the lease."""
        self.update(context_id, lease={**self.context(context_id)["lease"], "expires_at": self.now + LEASE})

    def call(
        self,
        called: str,
        end: Literal["answered", "closed", "open"] = "answered",
        *,
        seconds: float = 1,
        **changes: Any,
    ) -> None:
        """Its worker calls the base service, which takes this long; `changes` are fields of Call."""
        context = self.context(called)
        started = self.now.timestamp()
        busy = sum(call.ended is not None and call.ended > started for call in self.calls)
        call = Call(
            context_id=called,
            attempt=context["attempt"],
            key=context["idempotency_key"],
            started=started,
            ended=None if end == "open" else started + seconds,
            end=end,
            in_flight=busy + 1,
            service=_SERVICE,
        )
        self.calls.append(replace(call, **changes))

    def chunk(self, context_id: str) -> None:
        """Its worker stores a chunk, and a reader is shown it."""
        attempt = self.context(context_id)["attempt"]
        seq = self._chunks(context_id) + 1
        chunk = {
            "_id": f"{context_id}:{attempt:08d}:{seq:08d}",
            "context_id": context_id,
            "attempt": attempt,
            "seq": seq,
            "expires_at": None,
        }
        self._write("events", chunk, "insert")
        self.show("output.delta", context_id, seq)

    def end(
        self, context_id: str, outcome: str, *, token: str | None = None, refund: int | None = None
    ) -> None:
        """Its attempt ends, by its worker or, as `lease_lost`, by the rescuer."""
        context = self.context(context_id)
        status = _ENDS.get(outcome) or (
            "scheduled" if context["tries"] < context["max_attempts"] else "failed"
        )
        record = {
            "attempt": context["attempt"],
            "token": token or context["lease"]["token"],
            "outcome": outcome,
            "chunks": self._chunks(context_id),
        }
        changes: dict[str, Any] = {"status": status, "lease": None, "history": [*context["history"], record]}
        if status in ("completed", "failed"):
            changes |= {"finished_at": self.now, "settled": False}
            changes |= (
                {"output": {"text": context_id}} if status == "completed" else {"error": {"code": "no"}}
            )
        changes["tries"] = context["tries"] - ((outcome == "released") if refund is None else refund)
        self.update(context_id, **changes)
        if status in ("completed", "failed"):
            self.show(f"step.{status}", context_id)
            self._settle(context_id)

    def promote(self, context_id: str) -> None:
        """Its time has come."""
        self.update(context_id, status="pending")

    def kill(self, worker: str) -> None:
        """A worker is killed."""
        self.killed.append(Kill(at=self.now.timestamp(), workers=frozenset({worker})))

    def context(self, context_id: str) -> Document:
        return self.documents["contexts"][context_id]

    def update(self, document_id: str, **fields: Any) -> None:
        """Whoever it is writes these fields."""
        collection = next(name for name, documents in self.documents.items() if document_id in documents)
        self._write(collection, {**self.documents[collection][document_id], **fields}, "update")

    def delete(self, document_id: str) -> None:
        """A context or request goes; it stays in what was read in the end."""
        gone = next(change for change in reversed(self.changes) if change.id == document_id)
        number = len(self.changes) + 1
        self.changes.append(replace(gone, number=number, kind="delete", at=self.now, document=None))

    def show(self, event: str, context_id: str, seq: int | None = None) -> None:
        """A reader is shown an event of a step; the id `REQUEST.` stands for the request itself."""
        request_id, _, step = context_id.partition(".")
        attempt = self.context(context_id)["attempt"] if step else None
        self.shown[request_id].append(Seen(type=event, step=step or None, attempt=attempt, seq=seq))

    def with_status(self, status: str) -> list[str]:
        return [name for name, context in self.documents["contexts"].items() if context["status"] == status]

    def work_off(self) -> None:
        """Whatever is open goes on to its end without trouble."""
        while waiting := [
            *self.with_status("scheduled"),
            *self.with_status("running"),
            *self.with_status("pending"),
        ]:
            self.pass_time()
            match self.context(waiting[0])["status"]:
                case "scheduled":
                    self.promote(waiting[0])
                case "pending":
                    self.claim(waiting[0])
                case _:
                    self.end(waiting[0], "completed")

    def history(self, **changes: Any) -> History:
        """All of it; `changes` are fields of History."""
        whole = History(
            calls=tuple(self.calls),
            changes=tuple(self.changes),
            final_requests=dict(self.documents["requests"]),
            final_contexts=dict(self.documents["contexts"]),
            final_chunks=[self.documents["events"][name] for name in sorted(self.documents["events"])],
            acknowledged=frozenset(self.documents["requests"]),
            readings=[Reading(request_id=name, events=tuple(shown)) for name, shown in self.shown.items()],
            killed=tuple(self.killed),
            samples=(Sample(what="the primary is away", at=0, operations=3, log_lines=1),),
            bounds=Bounds(
                concurrency={_SERVICE: 10_000},
                taken_back_within=LEASE + timedelta(seconds=10),
                claimed_within=timedelta(hours=1),
                operations_per_second=5,
                log_lines_per_second=5,
            ),
        )
        return replace(whole, **changes)

    def _settle(self, context_id: str) -> None:
        """Release or cancel dependents, end the request, let it expire, and say so."""
        context = self.context(context_id)
        request_id = context["request_id"]
        cancelled = []
        for other_id, other in list(self.documents["contexts"].items()):
            if other["request_id"] != request_id or context["step"] not in other["waiting_on"]:
                continue
            left = [name for name in other["waiting_on"] if name != context["step"]]
            if other["status"] == "blocked" and context["status"] == "completed":
                self.update(other_id, waiting_on=left, status="blocked" if left else "pending")
            elif other["status"] == "blocked":
                self.update(other_id, status="cancelled", finished_at=self.now, settled=False)
                self.show("step.cancelled", other_id)
                cancelled.append(other_id)
        for other_id in cancelled:
            self._settle(other_id)
        self._end_request(request_id)
        self.update(context_id, settled=True)

    def _end_request(self, request_id: str) -> None:
        contexts = [c for c in self.documents["contexts"].values() if c["request_id"] == request_id]
        statuses = {context["status"] for context in contexts}
        request = self.documents["requests"][request_id]
        if request["expires_at"] is not None or not statuses <= {"completed", "failed", "cancelled"}:
            return
        status = next((name for name in ("failed", "cancelled") if name in statuses), "completed")
        expires_at = self.now + timedelta(days=7)
        self.update(request_id, status=status, finished_at=self.now, expires_at=expires_at)
        self.show(f"request.{status}", f"{request_id}.")
        for kind in ("events", "contexts"):
            for name in [name for name in self.documents[kind] if name.startswith(f"{request_id}.")]:
                self.update(name, expires_at=expires_at + timedelta(hours=1))

    def _chunks(self, context_id: str) -> int:
        attempt = self.context(context_id)["attempt"]
        return sum(name.startswith(f"{context_id}:{attempt:08d}:") for name in self.documents["events"])

    def _write(self, collection: Any, document: Document, kind: Any) -> None:
        self.documents[collection][document["_id"]] = document
        self.changes.append(
            Change(
                number=len(self.changes) + 1,
                collection=collection,
                id=document["_id"],
                kind=kind,
                at=self.now,
                document=document,
            )
        )
