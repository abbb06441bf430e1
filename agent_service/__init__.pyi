"""The public names, for type checkers; at run time they are loaded on first use."""

from agent_service.base_services.call import BaseServiceAnswer as BaseServiceAnswer
from agent_service.base_services.call import BaseServiceCall as BaseServiceCall
from agent_service.context_manager import ContextManager as ContextManager
from agent_service.domain.callback import CallbackRules as CallbackRules
from agent_service.domain.events import Cursor as Cursor
from agent_service.domain.listing import RequestFilter as RequestFilter
from agent_service.domain.quota import Quota as Quota
from agent_service.domain.request import Caller as Caller
from agent_service.domain.request import RequestStatus as RequestStatus
from agent_service.request_service import RequestService as RequestService
from agent_service.store.database import Store as Store
from agent_service.workers.analysis_worker import AnalysisWorker as AnalysisWorker
from agent_service.workers.communication_worker import CommunicationWorker as CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker as GenerativeWorker
from agent_service.workers.worker_base import ClientWorker as ClientWorker

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
