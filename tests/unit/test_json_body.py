"""JSON on the wire."""

from types import MappingProxyType

import pytest

from agent_service.base_services.json_body import dump_json, parse_json, parse_object
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable


def test_a_body_is_compact_utf_8() -> None:
    assert dump_json({"a": ["é", 1, None]}) == '{"a":["é",1,null]}'.encode()


def test_read_only_mappings_and_tuples_are_written_too() -> None:
    assert dump_json({"a": MappingProxyType({"b": (1, 2)})}) == b'{"a":{"b":[1,2]}}'


@pytest.mark.parametrize("value", [float("nan"), "\ud800", b"bytes", object(), {1, 2}])
def test_what_is_not_json_is_refused_before_it_is_sent(value: object) -> None:
    with pytest.raises(BaseServiceRejected, match="invalid_input"):
        dump_json({"a": value})  # type: ignore[dict-item]  # the point of the test


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5_000, b'{"a": 1} x']
)
def test_what_cannot_be_read_is_an_invalid_answer(text: bytes) -> None:
    with pytest.raises(BaseServiceUnavailable) as caught:
        parse_json(text)
    assert (caught.value.code, caught.value.answered) == ("invalid_answer", True)


def test_large_integers_are_kept_exactly() -> None:
    assert parse_json(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize("text", [b"[]", b"1", b"null", b'"text"'])
def test_an_answer_must_be_an_object(text: bytes) -> None:
    with pytest.raises(BaseServiceUnavailable, match="where an object belongs"):
        parse_object(text)
