"""JSON on the wire."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.base_services.json_body import dump_json, parse_json, parse_object
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable


def test_a_body_is_compact_utf_8() -> None:
    assert dump_json({"a": ["é", 1, None]}) == '{"a":["é",1,null]}'.encode()


def test_read_only_mappings_and_tuples_are_written_too() -> None:
    assert dump_json({"a": MappingProxyType({"b": (1, 2)})}) == b'{"a":{"b":[1,2]}}'


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), [None, {"b": float("nan")}], "\ud800", b"bytes", object(), {1, 2}],
)
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


@pytest.mark.parametrize(
    "integer",
    [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18, -(10**18), 10**30, -(10**30)],
)
def test_integers_of_any_size_are_sent_and_read_exactly(integer: int) -> None:
    assert dump_json({"a": integer}) == b'{"a":%d}' % integer
    for text in (b"[%d]" % integer, f"[{integer}]"):
        got = parse_json(text)
        assert got == [integer]
        assert isinstance(got, list)
        assert type(got[0]) is int


#: Valid, if only just; a number too large for its type is told from others when it is stored.
ODD = {
    "not a number": '{"output": NaN}',
    "infinite": "[Infinity, -Infinity]",
    "too large": "[1e400]",
    "half a character": r'"a \ud83d"',
    "both halves": r'"\ud83d\ude00"',
    "a name twice": '{"a": 1, "a": 2}',
    "long fraction": "[0.12345678901234567890123456789, 1234567890123456789012.5]",
    "minus zero": "[-0, -0.0]",
    "digits in text": '"123456789012345678901234567890"',
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_read_as_the_standard_library_reads_it(name: str) -> None:
    text = ODD[name]
    for given_as in (text, text.encode()):
        assert repr(parse_json(given_as)) == repr(json.loads(text))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_of_unicode_are_read(encoding: str) -> None:
    assert parse_json('{"a": "é"}'.encode(encoding)) == {"a": "é"}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
def test_any_value_is_written_and_read_as_the_standard_library_does(value: Any) -> None:
    assert repr(json.loads(dump_json({"a": value}))) == repr({"a": value})
    assert repr(parse_json(json.dumps(value).encode())) == repr(value)
    assert repr(parse_json(json.dumps(value, ensure_ascii=False))) == repr(value)


@pytest.mark.parametrize("text", [b"[]", b"1", b"null", b'"text"'])
def test_an_answer_must_be_an_object(text: bytes) -> None:
    with pytest.raises(BaseServiceUnavailable, match="where an object belongs"):
        parse_object(text)
