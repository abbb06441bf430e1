"""GenerativeWorker: the worker of the service `generation`."""

from typing import ClassVar

from agent_service.workers.worker_base import ClientWorker


class GenerativeWorker(ClientWorker):
    """
    Has text generated: by any OpenAI-compatible server (`GENERATION_PROTOCOL=openai`), or by a service that
    speaks `execute`. What the service streams is stored as it arrives.
    """

    service: ClassVar[str] = "generation"
