"""Verdict: how an attempt ends when something went wrong."""

from collections.abc import Callable
from datetime import datetime

from agent_service.domain.context import Context, ContextError
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceError,
    BaseServiceUnavailable,
    TemplateError,
    UnstorableValue,
)
from agent_service.domain.retry_policy import RetryPolicy, hold_for
from agent_service.domain.transitions import Transition, failed, retry_at

#: The codes of what ends a context at once and is not the base service's doing.
_FINAL_CODES = ((TemplateError, "template_error"), (UnstorableValue, "unstorable_output"))
_LONGEST_MESSAGE = 1_000


def after_error(
    context: Context,
    error: Exception,
    *,
    at: datetime,
    chunks: int,
    policy: RetryPolicy,
    random: Callable[[], float],
) -> Transition:
    """
    The end of an attempt that raised `error`.

    What may pass is tried again after a back-off, not before the base service asked for, as long as tries are
    left; everything else fails at once. An error of the handler's own is treated as one that may pass.
    """
    described = describe(error)
    if not described.retryable or context.tries >= context.max_attempts:
        return failed(at=at, error=described, chunks=chunks)
    delay = policy.delay(context.tries, random)
    if isinstance(error, BaseServiceUnavailable) and error.retry_after is not None:
        delay = max(delay, hold_for(error.retry_after))
    return retry_at(at=at, run_at=at + delay, error=described, chunks=chunks)


def deadline_exceeded(*, at: datetime, chunks: int = 0) -> Transition:
    """The request's deadline passed before the work was done."""
    error = ContextError(
        code="deadline_exceeded", message="the deadline of the request has passed", retryable=False
    )
    return failed(at=at, error=error, chunks=chunks)


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
