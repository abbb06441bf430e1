"""Example runs, and what the tests of the checker do with their histories."""

from dataclasses import replace
from typing import Any

from tests.faults.support.checker import check
from tests.faults.support.history import Document, History
from tests.faults.support.legal_run import LegalRun


def an_eventful_run() -> LegalRun:
    """`draft` is lost by a killed worker, handed back, retried, completed in two chunks; `check` follows."""
    run = LegalRun()
    run.submit("r", {"check": ("draft",), "draft": ()})
    run.claim("r.draft", worker="killed")
    run.call("r.draft", "closed", seconds=1)
    run.chunk("r.draft")
    run.renew("r.draft")
    run.pass_time(1)
    run.kill("killed")
    run.pass_time(31)
    run.end("r.draft", "lease_lost")
    run.promote("r.draft")
    run.claim("r.draft")
    run.end("r.draft", "released")
    run.claim("r.draft")
    run.call("r.draft")
    run.pass_time()
    run.end("r.draft", "retrying")
    run.promote("r.draft")
    run.claim("r.draft")
    run.call("r.draft")
    run.chunk("r.draft")
    run.chunk("r.draft")
    run.pass_time()
    run.end("r.draft", "completed")
    run.claim("r.check")
    run.call("r.check")
    run.pass_time()
    run.end("r.check", "completed")
    return run


def a_begun_run(*, max_attempts: int = 3) -> LegalRun:
    """The first step of two, `draft` before `check`, is claimed for the first time."""
    run = LegalRun()
    run.submit("r", {"check": ("draft",), "draft": ()}, max_attempts=max_attempts)
    run.claim("r.draft")
    return run


def rules(history: LegalRun | History) -> set[str]:
    """The rules that the checker finds broken; what is open in a run goes on to its end first."""
    if isinstance(history, LegalRun):
        history.work_off()
        history = history.history()
    return {violation.rule for violation in check(history)}


def with_final(history: History, document_id: str, **fields: Any) -> History:
    """The history that ends with other fields in one document."""

    def patched(documents: Any) -> dict[str, Document]:
        return {
            name: {**found, **fields} if name == document_id else found for name, found in documents.items()
        }

    return replace(
        history,
        final_requests=patched(history.final_requests),
        final_contexts=patched(history.final_contexts),
    )
