"""Which worker the composition root makes for which service, whatever the service is called."""

import pytest
from mongomock_motor import AsyncMongoMockClient

from agent_service import main
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.workers.analysis_worker import AnalysisWorker
from agent_service.workers.communication_worker import CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.worker_base import ClientWorker


def worker_for(service: str) -> object:
    settings = load_settings(
        {"SERVICES": f"{service},translation", f"{service.upper()}_BASE_URL": "http://127.0.0.1:9"},
        env_file=None,
        secrets_folder=None,
    )
    return main._make_worker(settings, Store(AsyncMongoMockClient()["agent_service"]), service, ())


@pytest.mark.parametrize("service", ["translation", *sorted(main._HOMES), "worker", "dev"])
def test_a_service_of_ones_own_has_a_plain_worker_whatever_its_name(service: str) -> None:
    made = worker_for(service.lower())
    assert type(made) is ClientWorker
    assert made._service == service.lower()


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ("generation", GenerativeWorker),
        ("analysis", AnalysisWorker),
        ("communication", CommunicationWorker),
    ],
)
def test_the_standard_services_have_the_workers_that_are_made_for_them(service: str, kind: type) -> None:
    assert type(worker_for(service)) is kind
