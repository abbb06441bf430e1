"""What the client needs of a protocol; `execute` and `openai` are the two that there are."""

from typing import Protocol

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.domain.json_value import JsonObject


class StreamReading(Protocol):
    """The state of one streamed answer: it takes the data of the events in order."""

    @property
    def ended(self) -> bool:
        """Whether the last event of the answer was taken; nothing after it matters."""
        ...

    def take(self, data: str) -> str:
        """The text that this event adds, often none; raises BaseServiceError for a broken event."""
        ...

    def answer(self) -> BaseServiceAnswer:
        """The whole answer; raises BaseServiceUnavailable("incomplete_answer") when it is not whole."""
        ...


class ServiceProtocol(Protocol):
    """How a call is written into a request body, and how an answer is read."""

    @property
    def path(self) -> str:
        """Where requests go, below the base URL."""
        ...

    @property
    def keeps_connections(self) -> bool:
        """Whether a server that speaks it closes a connection only where it says so, or after a while."""
        ...

    def request_body(self, call: BaseServiceCall) -> JsonObject:
        """Raises BaseServiceRejected("invalid_input") for an input that the protocol cannot carry."""
        ...

    def read_object(self, body: JsonObject) -> BaseServiceAnswer:
        """An answer that came as one JSON object; raises BaseServiceError."""
        ...

    def read_stream(self) -> StreamReading:
        """A new reading for one answer that comes as events."""
        ...
