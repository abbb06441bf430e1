"""The headers of a call, which are found in an index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from agent_service.api.headers import Call, IndexedHeaders, headers_of

names = st.sampled_from([b"accept", b"host", b"x-user-id", b"prefer"])
raw = st.lists(st.tuples(names, st.binary(max_size=5)), max_size=8)
asked = st.sampled_from(["Accept", "host", "X-User-ID", "prefer", "missing", "é"])


@given(raw, asked)
def test_the_index_finds_what_is_found_without_it(headers: list[tuple[bytes, bytes]], name: str) -> None:
    plain, indexed = Headers(raw=headers), IndexedHeaders(headers)
    assert indexed.getlist(name) == plain.getlist(name)
    assert indexed.get(name) == plain.get(name)
    assert (name in indexed) == (name in plain)
    assert indexed.items() == plain.items()


def test_a_name_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        IndexedHeaders([])["host"]


def test_what_is_added_to_a_call_after_its_head_is_not_among_its_headers() -> None:
    scope = {"type": "http", "headers": [(b"host", b"a")]}
    first = headers_of(scope)
    scope["headers"].append((b"authorization", b"Bearer trailer"))  # type: ignore[attr-defined]  # a list
    assert Call(scope).headers is first
    assert "authorization" not in first
