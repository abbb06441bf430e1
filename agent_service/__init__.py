"""
agent_service: your MongoDB is already the queue for your AI agents.

The public names are loaded on first use, so that a worker never imports what only the API needs.
"""

from importlib import import_module

__all__ = [
    "AnalysisWorker",
    "ClientWorker",
    "CommunicationWorker",
    "ContextManager",
    "GenerativeWorker",
    "RequestService",
    "Store",
]

_HOMES = {
    "AnalysisWorker": "agent_service.workers.analysis_worker",
    "ClientWorker": "agent_service.workers.worker_base",
    "CommunicationWorker": "agent_service.workers.communication_worker",
    "ContextManager": "agent_service.context_manager",
    "GenerativeWorker": "agent_service.workers.generative_worker",
    "RequestService": "agent_service.request_service",
    "Store": "agent_service.store.database",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'agent_service' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
