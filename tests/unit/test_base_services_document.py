"""docs/base-services.md says what the code does."""

import re
from pathlib import Path

import pytest

from agent_service.base_services import exchange
from agent_service.base_services.client import MAX_ANSWER_BYTES
from agent_service.base_services.error_message import LONGEST_MESSAGE
from agent_service.base_services.openai_input import PARAMETERS

pytestmark = pytest.mark.harness

ROOT = Path(__file__).resolve().parents[2]
TEXT = " ".join((ROOT / "docs" / "base-services.md").read_text(encoding="utf-8").split())
#: Callbacks are told of in docs/callbacks.md.
_OF_CALLBACKS = ("callback_client", "public_resolver")
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "agent_service" / "base_services").glob("*.py")
    if path.stem not in _OF_CALLBACKS
)


def test_exactly_the_parameters_that_go_through_are_named() -> None:
    listed = TEXT.split("These go through as they are: ")[1].split(" Anything else is refused")[0]
    assert re.findall(r"`(\w+)`", listed) == sorted(PARAMETERS)


@pytest.mark.parametrize("error", ["BaseServiceUnavailable", "BaseServiceRejected"])
def test_every_code_of_an_error_is_explained(error: str) -> None:
    codes = set(re.findall(rf'{error}\(\s*"(\w+)"', SOURCES))
    assert codes
    assert {code for code in codes if f"`{code}`" not in TEXT} == set()


def test_the_limits_are_the_ones_that_are_in_force() -> None:
    mebibyte = 1024 * 1024
    for limit in (
        f"A whole answer: {MAX_ANSWER_BYTES // mebibyte} MiB",
        f"and {exchange.STREAM_FACTOR * MAX_ANSWER_BYTES // mebibyte} MiB with all that is around it",
        f"{exchange.SILENCE_SECONDS:.0f} s of silence",
        f"not within {exchange.CONNECT_SECONDS:.0f} s",
        f"{exchange.ERROR_BODY_BYTES // 1024} KiB are read, for {exchange.ERROR_BODY_SECONDS:.0f} s at most",
        f"cut at {LONGEST_MESSAGE} characters",
    ):
        assert limit in TEXT
