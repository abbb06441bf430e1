"""The protocol `execute`: our own small contract for base services, streamed or not."""

from collections.abc import Mapping

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.base_services.json_body import incomplete_answer, invalid_answer, parse_object
from agent_service.base_services.protocol import StreamReading
from agent_service.base_services.status_errors import reported_error
from agent_service.base_services.surrogates import TextPieces
from agent_service.domain.json_value import JsonObject


class ExecuteProtocol:
    """`POST /execute`, answered with `{"output", "usage"?}` or with deltas that end in such an object."""

    path = "/execute"
    keeps_connections = True

    def request_body(self, call: BaseServiceCall) -> JsonObject:
        return {
            "context_id": call.context_id,
            "request_id": call.request_id,
            "step": call.step,
            "attempt": call.attempt,
            "input": call.input,
            "metadata": call.metadata,
        }

    def read_object(self, body: JsonObject) -> BaseServiceAnswer:
        if body.get("error"):
            raise reported_error(body["error"])
        if "output" not in body:
            raise invalid_answer('an answer without "output"')
        usage = body.get("usage")
        if usage is not None and not isinstance(usage, Mapping):
            raise invalid_answer('a "usage" that is no object')
        return BaseServiceAnswer(output=body["output"], usage=usage)

    def read_stream(self) -> StreamReading:
        return _ExecuteReading(self)


class _ExecuteReading:
    """Events of other shapes are passed over, so that a service may say more than we know."""

    def __init__(self, protocol: ExecuteProtocol) -> None:
        self._protocol = protocol
        self._answer: BaseServiceAnswer | None = None
        self._pieces = TextPieces()

    @property
    def ended(self) -> bool:
        return self._answer is not None

    def take(self, data: str) -> str:
        event = parse_object(data)
        if event.get("error") or "output" in event:
            self._answer = self._protocol.read_object(event)
        delta = event.get("delta", "")
        if delta is None and self.ended:
            delta = ""
        if not isinstance(delta, str):
            raise invalid_answer('a "delta" that is no text')
        return self._pieces.take(delta, last=self.ended)

    def answer(self) -> BaseServiceAnswer:
        if self._answer is None:
            raise incomplete_answer('its event with "output"')
        return self._answer
