"""
Every error of agent_service, in one tree.

    AgentServiceError
    ├── InvalidSubmission            a request that can never run, with one problem per wrong field
    ├── TemplateError                a template that cannot be read or resolved
    ├── RequestNotFound              no such request for this organization
    ├── IdempotencyConflict          the key was used before with another body
    ├── RequestAlreadyEnded          what has ended cannot be cancelled any more
    ├── RequestNotEnded              only what has ended can be retried
    ├── NothingToRetry               every step completed, and none was named
    ├── NotCompleted                 what was waited for has ended otherwise
    ├── StillRunning                 what was waited for has not ended in time
    ├── LimitExceeded                the organization has or submits too much just now
    ├── UnstorableValue              MongoDB could not hold the value
    ├── UndecodableDocument          what is stored is not what this version knows
    ├── LeaseLost                    the attempt belongs to another worker now
    ├── StoreError
    │   ├── StoreUnavailable         MongoDB cannot be reached, or has no primary
    │   ├── WriteOutcomeUnknown      a write was sent and its answer was lost
    │   └── NotDurableYet            what was asked for is not on a majority yet
    ├── BaseServiceError
    │   ├── BaseServiceUnavailable   another try may help
    │   │   └── DestinationUnavailable   one address of many did not take what was sent to it
    │   └── BaseServiceRejected      another try would end the same way
    ├── ConfigurationError           a setting is missing or wrong
    ├── LocalPartUnavailable         a part of the local default cannot run on this machine
    ├── LoopFailed                   a process lost a loop that it cannot work without, and stops
    └── WorkerProcessFailed          one of several worker processes cannot go on, and all have stopped

The docstring of a class says what happened and what to do about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


class AgentServiceError(Exception):
    """The root of everything that agent_service raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProblem:
    """One wrong place in a submission: a JSON Pointer (RFC 6901) and what would be right."""

    pointer: str
    detail: str


class InvalidSubmission(AgentServiceError):
    """The submission can never run as it is; each problem names a field and says what would be right."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        # Made when it is asked for: the problems of a batch may be large, and its answer needs no copy.
        return "; ".join(f"{p.pointer or '(root)'}: {p.detail}" for p in self.problems)


class TemplateError(AgentServiceError):
    """A template cannot be read, or names a value that is not there."""


class RequestNotFound(AgentServiceError):
    """No request of this organization has this id."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"there is no request {request_id!r}")


class IdempotencyConflict(AgentServiceError):
    """The idempotency key was used before with another body; use a new key for a new request."""


class RequestAlreadyEnded(AgentServiceError):
    """The request had ended before anybody asked to cancel it; what has ended never changes."""


class RequestNotEnded(AgentServiceError):
    """The request has not ended, so it cannot be retried; wait for its end, or cancel it."""


class NothingToRetry(AgentServiceError):
    """Every step of the request completed; name the step from which to run it anew."""


class NotCompleted(AgentServiceError):
    """
    A request that was waited for, or one of its steps, ended otherwise than completed.

    `status` says how it ended, `step`, `code` and `detail` why, as far as that is known.
    """

    def __init__(
        self, request_id: str, *, status: str, step: str | None = None, code: str = "", detail: str = ""
    ) -> None:
        self.request_id = request_id
        self.status = status
        self.step = step
        self.code = code
        self.detail = detail
        reasons = [f"step {step}" if step else "", code, detail]
        because = ": ".join(reason for reason in reasons if reason)
        super().__init__(f"the request {request_id} ended as {status}" + (f": {because}" if because else ""))


class StillRunning(AgentServiceError, TimeoutError):
    """The request had not ended when the time to wait for it was over; it goes on, so wait again."""


class LimitExceeded(AgentServiceError):
    """The organization has as many open requests as it may, or submits too fast; wait for `retry_after`."""

    def __init__(self, message: str, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class UnstorableValue(AgentServiceError):
    """The value cannot be stored in MongoDB: too large, too deep, or made of what BSON cannot hold."""


class UndecodableDocument(AgentServiceError):
    """
    A stored document has a field of another type than this version knows; `agent-service doctor` names it.

    `field` says which; the message never shows what stands in it.
    """

    def __init__(self, field: str, found: str, wanted: str) -> None:
        self.field = field
        super().__init__(f"{field} is {found}, and must be {wanted}")


class LeaseLost(AgentServiceError):
    """The lease ended or went to another worker; nothing more may be written for this attempt."""


class StoreError(AgentServiceError):
    """MongoDB did not do what was asked."""


class StoreUnavailable(StoreError):
    """MongoDB cannot be reached or has no primary; nothing was written, so try again."""


class WriteOutcomeUnknown(StoreError):
    """A write was sent and no answer came: it may or may not have been applied; look before repeating."""


class NotDurableYet(StoreError):
    """What was asked for is not on a majority of the members yet; ask again in a moment."""


class BaseServiceError(AgentServiceError):
    """A base service did not give an answer that can be used. `code` is stable, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


class BaseServiceUnavailable(BaseServiceError):
    """
    The base service did not do the work, and another try may help.

    `answered` says whether it sent any HTTP answer; `retry_after` is what it asked us to wait.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after: timedelta | None = None,
        answered: bool = False,
    ) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after
        self.answered = answered


class DestinationUnavailable(BaseServiceUnavailable):
    """
    One address among all those that a service delivers to did not take its delivery; another try may help.

    It says nothing of the others: nobody else waits for it, and no breaker counts it.
    """


class BaseServiceRejected(BaseServiceError):
    """The base service refused this input; another try would end the same way."""


class ConfigurationError(AgentServiceError):
    """A setting is missing or wrong; the message names the variable and what it should be."""


class LocalPartUnavailable(AgentServiceError):
    """A part of the local default cannot run here; the message says which, why, and what to set instead."""


class LoopFailed(AgentServiceError):
    """
    A loop ended that this process cannot work without; it stopped in order, and nothing was lost.

    The log has the traceback. Start the process (or the worker) anew.
    """


class WorkerProcessFailed(AgentServiceError):
    """
    One of several worker processes ended again and again, or did not stop in order; all of them have ended.

    Its log lines tell why. `exit_code` is what it ended with, 128 and the signal where one ended it.
    """

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
