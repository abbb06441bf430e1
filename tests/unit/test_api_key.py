"""What an API key is: a text that is shown once, and a digest that opens nothing by itself."""

import hashlib
import re
from datetime import timedelta

import pytest

from agent_service.domain.api_key import Scope, is_genuine, make_key, read_key_text
from tests.support.contexts import NOW, SECOND


def test_a_key_opens_with_its_own_text_only() -> None:
    key, text = make_key("acme", now=NOW)
    other, other_text = make_key("acme", now=NOW)
    presented, other_presented = read_key_text(text), read_key_text(other_text)
    assert presented is not None
    assert other_presented is not None
    assert is_genuine(presented, key)
    assert not is_genuine(presented, other)
    assert not is_genuine(other_presented, key)
    assert not is_genuine(presented, None)


def test_of_the_secret_only_a_digest_is_kept() -> None:
    key, text = make_key("acme", name="ci", now=NOW)
    secret = text.split("_")[-1]
    assert re.fullmatch(r"ask_live_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert key.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(key)
    assert secret not in repr(read_key_text(text))


def test_a_key_may_do_what_is_usual_unless_something_else_is_said() -> None:
    assert make_key("acme", now=NOW)[0].scopes == {Scope.SUBMIT, Scope.READ, Scope.CANCEL}
    assert make_key("acme", scopes=[Scope.ADMIN], now=NOW)[0].scopes == {Scope.ADMIN}


@pytest.mark.parametrize(
    "text",
    ["", "ask_live_", "ask_live_0123456789abcdef_", "Ask_live_" + "0" * 16 + "_" + "0" * 64, "0" * 100_000],
)
def test_what_does_not_look_like_a_key_is_none(text: str) -> None:
    assert read_key_text(text) is None


def test_a_key_ends_by_being_revoked_and_at_its_time() -> None:
    key, _ = make_key("acme", expires_at=NOW + SECOND, now=NOW)
    assert key.state(NOW) == "active"
    assert key.state(NOW + SECOND) == "expired"
    unlimited, _ = make_key("acme", now=NOW)
    assert unlimited.state(NOW + timedelta(days=10_000)) == "active"
