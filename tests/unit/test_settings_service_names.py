"""Which names further services may have."""

import pytest

from agent_service.settings.service_names import find_name_problem, parse_service_names
from agent_service.settings.table import list_entries

_TAKEN = [entry.variable.name for entry in list_entries(("generation",))]


def test_names_are_read_once_without_blanks_and_standard_services() -> None:
    assert parse_service_names(" translation, ,search,generation,translation,") == ("translation", "search")


@pytest.mark.parametrize(
    "name",
    [
        *("api", "log", "mongodb", "mongod", "max", "max_body", "services", "agent", "agent_service"),
        *("request", "retention", "shutdown", "smtp", "generation_max", "generation_api", "generation"),
    ],
)
def test_a_name_whose_variables_could_be_others_is_taken(name: str) -> None:
    assert "is taken by the variable" in (find_name_problem(name, _TAKEN) or "")


@pytest.mark.parametrize("name", ["Translation", "1st", "a-b", "_a", "a" * 64, "ä"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    assert "must be a lower-case letter" in (find_name_problem(name, _TAKEN) or "")


@pytest.mark.parametrize("name", ["translation", "generation_fast", "apis", "a" * 63])
def test_a_free_name_is_accepted(name: str) -> None:
    assert find_name_problem(name, _TAKEN) is None
