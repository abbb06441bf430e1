"""Which worker is made for which service, whatever the service is called, and what must be set for it."""

import pytest

from agent_service import worker_roles
from agent_service.domain.errors import ConfigurationError
from agent_service.settings import Settings, load_settings
from agent_service.workers.analysis_worker import AnalysisWorker
from agent_service.workers.callback_worker import CallbackWorker
from agent_service.workers.communication_worker import CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.worker_base import ClientWorker
from tests.support.api import memory_store

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def load(**environ: str) -> Settings:
    return load_settings(environ, env_file=None, secrets_folder=None)


def made_with(settings: Settings, service: str) -> object:
    worker_roles.check_worker(settings, service)
    return worker_roles.make_worker(settings, memory_store(), service, ())


def worker_for(service: str) -> object:
    environ = {"SERVICES": f"{service},translation", f"{service.upper()}_BASE_URL": "http://127.0.0.1:9"}
    return made_with(load(**environ), service)


@pytest.mark.parametrize("service", ["translation", "clientworker", "generativeworker", "worker", "dev"])
def test_a_service_of_ones_own_has_a_plain_worker_whatever_its_name(service: str) -> None:
    made = worker_for(service)
    assert type(made) is ClientWorker
    assert made._service == service


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


def test_callbacks_have_a_worker_once_a_host_is_allowed_and_there_is_a_secret() -> None:
    settings = load(CALLBACK_ALLOWED_HOSTS="hooks.example.org", CALLBACK_SECRET=SECRET)
    assert type(made_with(settings, "callback")) is CallbackWorker


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CALLBACK_SECRET": SECRET}, "CALLBACK_ALLOWED_HOSTS"),
        ({"CALLBACK_ALLOWED_HOSTS": "hooks.example.org"}, "CALLBACK_SECRET"),
    ],
)
def test_what_is_missing_for_callbacks_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{named} is not set"):
        worker_roles.check_worker(load(**environ), "callback")


def test_no_service_of_ones_own_can_take_the_name_of_callbacks() -> None:
    with pytest.raises(
        ConfigurationError, match="'callback' is taken by the variable CALLBACK_ALLOWED_HOSTS"
    ):
        load(SERVICES="callback")


@pytest.mark.parametrize("place", worker_roles.PARTS)
def test_everything_that_is_loaded_by_name_is_there(place: str) -> None:
    assert callable(worker_roles.load_part(place))


def test_callbacks_have_no_queues_to_choose() -> None:
    environ = {"CALLBACK_ALLOWED_HOSTS": "hooks.example.org", "CALLBACK_SECRET": SECRET}
    worker_roles.check_worker(load(**environ), "callback", ["default"])
    with pytest.raises(ConfigurationError, match="queue `default` only"):
        worker_roles.check_worker(load(**environ), "callback", ["slow"])
