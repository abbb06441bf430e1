"""BatchItem: what became of one submission of a batch, and sending a batch until that is known of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent_service.client.answers import explain_problem, read_object
from agent_service.client.connection import Connection
from agent_service.client.json_fields import integer_of, object_of, objects_of, text_or_none
from agent_service.client.pace import Pace
from agent_service.domain.errors import AgentServiceError, BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """The id of the request that was taken, or the error for which it was not."""

    id: str | None
    error: AgentServiceError | None

    @classmethod
    def read(cls, raw: JsonObject) -> "BatchItem":
        """A result as the API shows it."""
        request_id = text_or_none(raw, "id")
        if request_id is not None:
            return cls(id=request_id, error=None)
        problem = object_of(raw, "problem")
        return cls(id=None, error=explain_problem(problem, status=integer_of(problem, "status")))


async def send_batch(
    connection: Connection, submissions: Sequence[JsonObject], *, key: str, patience: timedelta
) -> tuple[BatchItem, ...]:
    """
    What became of each submission, in their order.

    While some of them were not taken because the API could not just then, the same is sent again.
    """
    pace = Pace(patience)
    while True:
        answer = await connection.call(
            "POST", "/v1/requests:batch", body={"requests": submissions}, headers={"Idempotency-Key": key}
        )
        items = tuple(BatchItem.read(raw) for raw in objects_of(read_object(answer), "results"))
        if len(items) != len(submissions):
            detail = f"{len(submissions)} submissions were sent, and {len(items)} results came"
            raise BaseServiceRejected("unusable_answer", detail)
        passing = [item.error for item in items if isinstance(item.error, BaseServiceUnavailable)]
        if not passing:
            return items
        try:
            await pace.pause_or_raise(passing[0])
        except BaseServiceUnavailable:
            return items
