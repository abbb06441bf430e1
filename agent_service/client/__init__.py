"""AgentClient and SyncAgentClient: the HTTP API of a running agent_service, for Python programs."""

from agent_service.client.agent_client import AgentClient
from agent_service.client.batch import BatchItem
from agent_service.client.listing import RequestSummary, StepSummary
from agent_service.client.request_event import RequestEvent
from agent_service.client.results import AttemptResult, ErrorResult, RequestResult, StepResult
from agent_service.client.step_text import TextPiece
from agent_service.client.submission_fields import StepFields, SubmissionFields
from agent_service.client.sync_client import SyncAgentClient

__all__ = [
    "AgentClient",
    "AttemptResult",
    "BatchItem",
    "ErrorResult",
    "RequestEvent",
    "RequestResult",
    "RequestSummary",
    "StepFields",
    "StepResult",
    "StepSummary",
    "SubmissionFields",
    "SyncAgentClient",
    "TextPiece",
]
