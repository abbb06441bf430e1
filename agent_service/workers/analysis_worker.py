"""AnalysisWorker: the worker of the service `analysis`."""

from typing import ClassVar

from agent_service.workers.worker_base import ClientWorker


class AnalysisWorker(ClientWorker):
    """Has text or records analysed by the service at `ANALYSIS_BASE_URL`."""

    service: ClassVar[str] = "analysis"
