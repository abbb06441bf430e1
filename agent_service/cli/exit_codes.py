"""ExitCode: what the exit code of a command says, and which error leads to which."""

from enum import IntEnum

from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceUnavailable,
    ConfigurationError,
    IdempotencyConflict,
    InvalidSubmission,
    LimitExceeded,
    NotDurableYet,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
    StillRunning,
    StoreUnavailable,
    TemplateError,
    WorkerProcessFailed,
    WriteOutcomeUnknown,
)


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    FAILED = 1
    #: The command or a setting is wrong.
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    #: Something does not answer now; the same command may work later (EX_TEMPFAIL).
    TRY_AGAIN = 75
    INTERRUPTED = 130


_CODES: tuple[tuple[type[AgentServiceError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (InvalidSubmission, ExitCode.USAGE),
    (TemplateError, ExitCode.USAGE),
    (RequestNotFound, ExitCode.NOT_FOUND),
    (IdempotencyConflict, ExitCode.CONFLICT),
    (RequestAlreadyEnded, ExitCode.CONFLICT),
    (RequestNotEnded, ExitCode.CONFLICT),
    (NothingToRetry, ExitCode.CONFLICT),
    (BaseServiceUnavailable, ExitCode.TRY_AGAIN),
    (StillRunning, ExitCode.TRY_AGAIN),
    (LimitExceeded, ExitCode.TRY_AGAIN),
    (StoreUnavailable, ExitCode.TRY_AGAIN),
    (NotDurableYet, ExitCode.TRY_AGAIN),
    (WriteOutcomeUnknown, ExitCode.TRY_AGAIN),
)


def exit_code_of(error: AgentServiceError) -> int:
    """The exit code of a command that ended with this error."""
    if isinstance(error, WorkerProcessFailed):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
