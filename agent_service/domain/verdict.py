"""Verdict: how an attempt ends when something went wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from agent_service.domain.context import UNDECODABLE_CONTEXT, Context, ContextError
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceError,
    BaseServiceUnavailable,
    DestinationUnavailable,
    TemplateError,
    UndecodableDocument,
    UnstorableValue,
)
from agent_service.domain.retry_policy import RetryPolicy, hold_for
from agent_service.domain.stop import DEADLINE, stopped
from agent_service.domain.transitions import Transition, failed, retry_at

#: The codes of what ends a context at once and is not the base service's doing.
_FINAL_CODES = (
    (TemplateError, "template_error"),
    (UnstorableValue, "unstorable_output"),
    # What its input is filled in with.
    (UndecodableDocument, UNDECODABLE_CONTEXT),
)
_LONGEST_MESSAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What the state of its service means for a context: not before `until`, and whether the try counts."""

    until: datetime
    refund: bool


def after_error(
    context: Context,
    error: Exception,
    *,
    at: datetime,
    chunks: int,
    policy: RetryPolicy,
    random: Callable[[], float],
    wait: Wait | None = None,
) -> Transition:
    """
    The end of an attempt that raised `error`.

    What may pass is tried again after a back-off, as long as tries are left; everything else fails at once.
    An error of the handler's own is treated as one that may pass. Where the base service asked for the wait,
    or `wait` says so, the try does not count. What could only go on after its deadline ends now.
    """
    described = describe(error)
    if isinstance(error, BaseServiceUnavailable) and error.retry_after is not None:
        # Where nobody else waits for it, it may be as long as the one who asked for it likes.
        alone = isinstance(error, DestinationUnavailable)
        until = at + (error.retry_after if alone else hold_for(error.retry_after))
        wait = Wait(until=until if wait is None else max(wait.until, until), refund=True)
    refund = wait is not None and wait.refund
    if not described.retryable or (not refund and context.tries >= context.max_attempts):
        return failed(at=at, error=described, chunks=chunks)
    if refund and wait is not None:
        # A little later than the others that wait for the same moment; no back-off, as nothing was tried.
        run_at = wait.until + policy.delay(1, random)
    else:
        run_at = at + policy.delay(context.tries, random)
        run_at = run_at if wait is None else max(run_at, wait.until)
    if run_at >= context.deadline_at:
        return deadline_exceeded(at=at, chunks=chunks, last_error=described)
    return retry_at(at=at, run_at=run_at, error=described, chunks=chunks, refund=refund)


def deadline_exceeded(*, at: datetime, chunks: int = 0, last_error: ContextError | None = None) -> Transition:
    """
    The request's deadline passed before the work was done, or does so before it could be tried again.

    Then `last_error` is what the last try ended with.
    """
    if last_error is None:
        return stopped(DEADLINE, at=at, chunks=chunks)
    said = f"the deadline of the request passes before another try; {last_error.code}: {last_error.message}"
    return failed(at=at, error=replace(DEADLINE.error, message=_short(said)), chunks=chunks)


def describe(error: Exception) -> ContextError:
    """What of an error is stored and shown: a stable code and a short message, never a traceback."""
    if isinstance(error, BaseServiceError):
        retryable = isinstance(error, BaseServiceUnavailable)
        return ContextError(code=_storable(error.code), message=_short(error.message), retryable=retryable)
    for kind, code in _FINAL_CODES:
        if isinstance(error, kind):
            return ContextError(code=code, message=_short(str(error)), retryable=False)
    if isinstance(error, AgentServiceError):
        return ContextError(code="internal_error", message=_short(str(error)), retryable=True)
    # The text of a foreign exception may quote anything, secrets too; its type must do.
    message = f"the handler raised {type(error).__name__}; the worker's log has the details"
    return ContextError(code="handler_error", message=message, retryable=True)


def _short(message: str) -> str:
    message = _storable(message)
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"


def _storable(text: str) -> str:
    """The text without lone surrogates, which MongoDB cannot hold; a handler may raise any text."""
    return text.encode(errors="replace").decode()
