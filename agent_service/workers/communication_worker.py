"""CommunicationWorker: the worker of the service `communication`."""

from typing import ClassVar

from agent_service.workers.worker_base import ClientWorker


class CommunicationWorker(ClientWorker):
    """
    Has messages delivered by the service at `COMMUNICATION_BASE_URL`.

    A message may be asked for more than once, always with the same `Idempotency-Key`; a service that keeps to
    it delivers once.
    """

    service: ClassVar[str] = "communication"
