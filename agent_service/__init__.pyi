"""The public names, for type checkers; at run time they are loaded on first use."""

from agent_service.context_manager import ContextManager as ContextManager
from agent_service.request_service import RequestService as RequestService
from agent_service.store.database import Store as Store
from agent_service.workers.analysis_worker import AnalysisWorker as AnalysisWorker
from agent_service.workers.communication_worker import CommunicationWorker as CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker as GenerativeWorker
from agent_service.workers.worker_base import ClientWorker as ClientWorker

__all__ = [
    "AnalysisWorker",
    "ClientWorker",
    "CommunicationWorker",
    "ContextManager",
    "GenerativeWorker",
    "RequestService",
    "Store",
]
