"""
agent_service: your MongoDB is already the queue for your AI agents.

The public names are loaded on first use, so that a worker never imports what only the API needs.
"""

from importlib import import_module

__all__ = [
    "AnalysisWorker",
    "BaseServiceAnswer",
    "BaseServiceCall",
    "CallbackRules",
    "Caller",
    "ClientWorker",
    "CommunicationWorker",
    "ContextManager",
    "Cursor",
    "GenerativeWorker",
    "Quota",
    "RequestFilter",
    "RequestService",
    "RequestStatus",
    "Store",
]

_HOMES = {
    "AnalysisWorker": "agent_service.workers.analysis_worker",
    "BaseServiceAnswer": "agent_service.base_services.call",
    "BaseServiceCall": "agent_service.base_services.call",
    "CallbackRules": "agent_service.domain.callback",
    "Caller": "agent_service.domain.request",
    "ClientWorker": "agent_service.workers.worker_base",
    "CommunicationWorker": "agent_service.workers.communication_worker",
    "ContextManager": "agent_service.context_manager",
    "Cursor": "agent_service.domain.events",
    "GenerativeWorker": "agent_service.workers.generative_worker",
    "Quota": "agent_service.domain.quota",
    "RequestFilter": "agent_service.domain.listing",
    "RequestService": "agent_service.request_service",
    "RequestStatus": "agent_service.domain.request",
    "Store": "agent_service.store.database",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'agent_service' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
