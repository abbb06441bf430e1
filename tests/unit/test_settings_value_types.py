"""The checks of lengths of time, addresses and names."""

from datetime import timedelta
from typing import Annotated

import pytest
from pydantic import SecretStr, TypeAdapter

from agent_service.settings.value_types import (
    DAY,
    SECOND,
    check_database_name,
    check_http_address,
    check_mongodb_uri,
    duration,
)

_SECONDS = TypeAdapter[timedelta](Annotated[timedelta, duration()])
_DAYS = TypeAdapter[timedelta](Annotated[timedelta, duration(unit=DAY)])
_AT_LEAST_ONE_SECOND = TypeAdapter[timedelta](Annotated[timedelta, duration(at_least=SECOND)])


def test_a_number_counts_units() -> None:
    assert _SECONDS.validate_python("0.5") == timedelta(milliseconds=500)
    assert _DAYS.validate_python("7") == timedelta(days=7)
    assert _SECONDS.validate_python(timedelta(minutes=1)) == timedelta(minutes=1)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "0.0000001", "ten", "PT5S", "9e8"])
def test_what_is_no_usable_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        _SECONDS.validate_python(text)


def test_a_length_of_time_below_its_least_is_refused() -> None:
    assert _AT_LEAST_ONE_SECOND.validate_python("1") == SECOND
    with pytest.raises(ValueError, match="validation error"):
        _AT_LEAST_ONE_SECOND.validate_python("0.9")


def test_an_http_address_loses_its_trailing_slash() -> None:
    assert (
        check_http_address("https://u:p@models.example.org:8443/v1/")
        == "https://u:p@models.example.org:8443/v1"
    )


@pytest.mark.parametrize(
    "address",
    [
        "models.example.org",
        "ftp://models.example.org",
        "http://",
        "http://:80",
        "http://host:99999",
        "http://host:0",
        "http://u:pa/ss@host",
        "http://[::1",
        "http://host/v1?key=x",
        "http://host/v1?",
        "http://host/v1#x",
        "http://ho st/",
        "http://host/\n",
    ],
)
def test_what_is_no_address_of_a_base_service_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        check_http_address(address)


def test_a_mongodb_address_needs_its_scheme() -> None:
    assert check_mongodb_uri(SecretStr("mongodb+srv://db.example.org")).get_secret_value().endswith("org")
    with pytest.raises(ValueError, match=r"^$"):
        check_mongodb_uri(SecretStr("localhost:27017"))


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a/b", "a$b", "a" * 64, "ü" * 40])
def test_a_database_name_that_mongodb_refuses_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        check_database_name(name)
    assert check_database_name("agent_service-2") == "agent_service-2"
