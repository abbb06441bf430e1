"""What a base service says of the secrets that it was sent is stored and shown without them."""

import base64

import pytest

from agent_service.base_services.client import BaseServiceClient
from agent_service.base_services.error_message import LONGEST_MESSAGE
from agent_service.domain.errors import BaseServiceRejected
from tests.support.base_service_behaviours import answer
from tests.support.base_service_clients import make_call
from tests.support.base_service_stub import BaseServiceStub

SECRET = "correct-horse-battery"


async def _ignore(delta: str) -> None:
    """Nothing is streamed here."""


async def message_of(said: str, *, user: str = "", api_key: str | None = None) -> str:
    """The message of the error that a client makes of a refusal in these words."""
    async with BaseServiceStub() as stub:
        stub.behave(answer({"detail": said}, status=401))
        client = BaseServiceClient(base_url=stub.url.replace("//", f"//{user}"), api_key=api_key)
        with pytest.raises(BaseServiceRejected) as refused:
            await client.call(make_call(), _ignore)
        await client.close()
    assert refused.value.message in str(refused.value)
    return refused.value.message


@pytest.mark.parametrize(
    ("user", "api_key"), [("", SECRET), (f"ann:{SECRET}@", None), ("ann:correct%2Dhorse%2Dbattery@", None)]
)
async def test_a_repeated_key_or_password_is_hidden(user: str, api_key: str | None) -> None:
    said = await message_of(f"{SECRET} is wrong, and so is {SECRET}", user=user, api_key=api_key)
    assert said.endswith("answered 401: *** is wrong, and so is ***")


async def test_a_repeated_header_is_hidden() -> None:
    sent = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    assert (await message_of(f"Basic {sent}?", user=f"ann:{SECRET}@")).endswith(": Basic ***?")


@pytest.mark.parametrize("kept", [8, 12, len(SECRET) - 1])
async def test_a_secret_that_a_cut_message_ends_in_is_hidden_too(kept: int) -> None:
    before = "x" * (LONGEST_MESSAGE - 1 - kept)
    said = await message_of(f"{before}{SECRET} is wrong", api_key=SECRET)
    assert said.endswith("x***")


async def test_what_is_too_short_for_a_secret_is_left_in_the_words_around_it() -> None:
    assert (await message_of("a test is wrong", api_key="test")).endswith(": a test is wrong")
