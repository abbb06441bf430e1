import re

import pytest
from starlette.datastructures import Headers

from agent_service.api.idempotency_key import pattern, read_idempotency_key
from agent_service.api.problems import HttpProblem


def headers(*values: str) -> Headers:
    return Headers(raw=[(b"idempotency-key", value.encode("latin-1")) for value in values])


def test_a_call_may_have_no_key() -> None:
    assert read_idempotency_key(headers()) is None


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("k", "k"),
        ("k" * 255, "k" * 255),
        ('"k"', "k"),
        (f'"{"k" * 255}"', "k" * 255),
        (r'"a\"b\\c"', r'a"b\c'),
        ('a"b', 'a"b'),
        ("\\", "\\"),
        ("a,b;c=~", "a,b;c=~"),
    ],
)
def test_a_key_is_the_same_quoted_or_bare(sent: str, key: str) -> None:
    assert read_idempotency_key(headers(sent)) == key
    assert re.search(pattern(), sent)


@pytest.mark.parametrize(
    "sent",
    ["", '""', "a b", '"a b"', "k" * 256, f'"{"k" * 256}"', '"open', '"a"b"', r'"a\b"', "é", '"k";p=1'],
)
def test_anything_else_is_refused(sent: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        read_idempotency_key(headers(sent))
    assert (caught.value.problem.status, caught.value.problem.code) == (400, "invalid_idempotency_key")
    assert not re.search(pattern(), sent)


def test_two_keys_are_refused() -> None:
    with pytest.raises(HttpProblem):
        read_idempotency_key(headers("a", "a"))
