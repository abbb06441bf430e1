"""A variable renders a value as one would write it, and shows it without secrets."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from agent_service.settings.variable import Variable


def _make_variable(
    visibility: Literal["plain", "uri", "secret"] = "plain", unit: timedelta = timedelta(seconds=1)
) -> Variable:
    return Variable(name="X", about="x", must_be="x", read_by=("api",), visibility=visibility, unit=unit)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (1048576, "1048576"),
        (timedelta(milliseconds=250), "0.25"),
        (timedelta(days=1), "86400"),
        (("a", "b"), "a,b"),
        (Path("a/b"), "a/b"),
        (SecretStr("hush"), "hush"),
    ],
)
def test_a_value_is_rendered_as_it_stands_in_the_environment(value: object, text: str) -> None:
    assert _make_variable().render(value) == text


def test_a_length_of_time_is_rendered_in_the_unit_of_its_variable() -> None:
    assert _make_variable(unit=timedelta(days=1)).render(timedelta(days=7)) == "7"


def test_a_secret_is_masked_when_it_is_set_and_empty_when_it_is_not() -> None:
    assert _make_variable("secret").show(SecretStr("hush")) == "********"
    assert _make_variable("secret").show(None) == ""


def test_an_address_is_shown_without_its_user() -> None:
    assert _make_variable("uri").show(SecretStr("mongodb://a:hush@db")) == "mongodb://********@db"
