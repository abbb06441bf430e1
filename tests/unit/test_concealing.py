"""Secrets in what a service says."""

import pytest

from agent_service.base_services.concealing import conceal
from agent_service.base_services.error_message import clean
from agent_service.domain.errors import BaseServiceRejected

SECRET = "sk-0123456789abcdef"


def concealed(message: str, *secrets: str) -> str:
    error = BaseServiceRejected("unauthorized", message)
    conceal(secrets, error)
    assert str(error) == f"unauthorized: {error.message}"
    return error.message


def test_a_secret_is_replaced_wherever_it_stands() -> None:
    assert concealed(f"{SECRET} is wrong, {SECRET}!", SECRET) == "*** is wrong, ***!"
    assert concealed("nothing of it here", SECRET) == "nothing of it here"


def test_what_is_too_short_to_be_a_secret_does_not_spoil_a_message() -> None:
    assert concealed("a key is needed", "key") == "a key is needed"


@pytest.mark.parametrize("room", range(4, len(SECRET)))
def test_a_secret_in_which_the_message_was_cut_is_hidden_too(room: int) -> None:
    cut = clean("x" * (499 - room) + SECRET + " and more")
    assert concealed(cut, SECRET) == "x" * (499 - room) + "***"


def test_a_longer_secret_that_holds_a_shorter_one_goes_as_a_whole() -> None:
    assert concealed("it was password-of-mine", "password", "password-of-mine") == "it was ***"
