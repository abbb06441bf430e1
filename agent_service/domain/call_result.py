"""CallResult: what the end of a call says of the base service, which is not what it says of the context."""

from enum import Enum

from agent_service.domain.errors import (
    BaseServiceRejected,
    BaseServiceUnavailable,
    DestinationUnavailable,
    UnstorableValue,
)
from agent_service.domain.service_state import Counts

#: The code of errors that are the handler's own.
HANDLER_ERROR = "handler_error"


class CallResult(Enum):
    """What one call adds to the counts of its service."""

    #: A useful answer, or a refusal of this input: the service works.
    WORKED = Counts(calls=1, answered=1)
    #: An answer that says that the service does not work now.
    FAILED = Counts(calls=1, failures=1, answered=1)
    #: It took the connection and gave no answer.
    SILENT = Counts(calls=1, failures=1)
    #: It could not be connected to.
    UNREACHABLE = Counts(calls=1, failures=1, unreachable=1)
    #: It says nothing of the service.
    NOTHING = Counts()

    @property
    def failure(self) -> bool:
        """Whether the service did not work."""
        return self.value.failures > 0


def result_of(error: Exception | None, *, cut_short: bool = False) -> CallResult:
    """
    What a call shows that ended with this error, or with an answer where that is None.

    `cut_short` says that the request's own deadline left it less time than calls usually have. A service that
    asks to be left alone for a while works as it should; that makes a hold, and counts as nothing here.
    """
    match error:
        case DestinationUnavailable():
            return CallResult.NOTHING
        case None | BaseServiceRejected() | UnstorableValue():
            return CallResult.WORKED
        case BaseServiceUnavailable(retry_after=None):
            pass
        case _:
            return CallResult.NOTHING
    if error.code == HANDLER_ERROR or (cut_short and error.code == "timeout"):
        return CallResult.NOTHING
    if error.code == "connect_failed":
        return CallResult.UNREACHABLE
    return CallResult.FAILED if error.answered else CallResult.SILENT
