"""SubmissionFields and StepFields: what a submission may hold, for editors and type checkers."""

from collections.abc import Sequence
from typing import Required, TypedDict

from agent_service.domain.json_value import JsonObject, JsonValue


class StepFields(TypedDict, total=False):
    """One step; `after` names the steps that it waits for."""

    name: Required[str]
    service: Required[str]
    input: Required[JsonValue]
    after: Sequence[str]
    queue: str


class SubmissionFields(TypedDict, total=False):
    """A submission: `steps`, or `service` and `input` for a single one."""

    steps: Sequence[StepFields | JsonObject]
    service: str
    input: JsonValue
    queue: str
    variables: JsonObject
    metadata: JsonObject
    #: From 0, which is served first, to 9.
    priority: int
    deadline_seconds: float
