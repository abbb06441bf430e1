"""JsonValue: what MongoDB cannot hold is found, wherever it is."""

import tracemalloc
from collections.abc import Callable
from types import MappingProxyType
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.json_value import (
    LONGEST_POINTER,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEYS,
    MAX_VALUES,
    JsonValue,
    escape_pointer,
    find_unstorable,
    join_pointer,
    own_copy,
    walk,
)

storable = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: "\0" not in key), inner),
    max_leaves=20,
)  # fmt: skip


def nested(depth: int, kind: str) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"k": value} if kind == "object" else [value]
    return value


@given(value=storable)
def test_json_within_the_limits_has_no_problems(value: object) -> None:
    assert list(find_unstorable(value)) == []


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        pytest.param(10**5000, "64 bits", id="more digits than Python prints"),
        (float("nan"), "finite"),
        (float("-inf"), "finite"),
        ("\ud800", "surrogates"),
        ({"a\0b": 1}, "NUL"),
        ({"\udfff": 1}, "surrogates"),
        ({7: 1}, "keys must be strings, not int"),
        (b"bytes", "bytes is not a JSON value"),
        ({1, 2}, "set is not a JSON value"),
    ],
)
def test_what_cannot_be_stored_is_a_problem_at_its_place(value: object, detail: str) -> None:
    (problem,) = find_unstorable({"fine": 1, "a/b~": [None, value]}, "/input")
    assert problem.pointer == "/input/a~1b~0/1"
    assert detail in problem.detail


def test_every_problem_is_told_in_document_order() -> None:
    value = {"a": [float("nan"), {"b": 2**64}], "c": {"d\0": 1, "e": "\ud800"}}
    assert [problem.pointer for problem in find_unstorable(value)] == ["/a/0", "/a/1/b", "/c", "/c/e"]


@pytest.mark.parametrize("kind", ["list", "object"])
def test_nesting_is_fine_up_to_the_limit_and_one_problem_beyond_it(kind: str) -> None:
    assert list(find_unstorable(nested(MAX_DEPTH, kind))) == []
    for depth in (MAX_DEPTH + 1, 50_000):
        (problem,) = find_unstorable(nested(depth, kind))
        assert "deeper than 100" in problem.detail


@pytest.mark.parametrize(
    ("make", "most", "detail"),
    [
        (lambda size: dict.fromkeys(map(str, range(size))), MAX_KEYS, "at most 10000 names, not 10001"),
        (lambda size: [0] * size, MAX_ITEMS, "at most 100000 members, not 100001"),
        (lambda size: (None,) * size, MAX_ITEMS, "at most 100000 members, not 100001"),
    ],
)
def test_an_object_and_a_list_have_so_many_members_and_no_more(
    make: Callable[[int], object], most: int, detail: str
) -> None:
    assert list(find_unstorable({"a": make(most)})) == []
    (problem,) = find_unstorable({"a": [make(most + 1)]}, "/input")
    assert (problem.pointer, detail in problem.detail) == ("/input/a/0", True)


def test_all_values_together_are_counted_however_they_are_spread() -> None:
    rows, columns = 400, 500
    value: list[object] = [[0] * columns for _ in range(rows)]
    value.append([0] * (MAX_VALUES - 1 - (rows + 1) - rows * columns))
    assert list(find_unstorable(value)) == []
    value[-1] = [*cast("list[object]", value[-1]), 0]
    (problem,) = find_unstorable(value, "/input")
    assert (problem.pointer, problem.detail) == ("/input", "must hold at most 250000 values in all")


def test_very_many_places_below_a_very_long_name_are_told_one_by_one_and_cut() -> None:
    value = {"k" * 500_000: ["\ud800"] * 20_000}
    tracemalloc.start()
    try:
        problems = sum(len(problem.pointer) <= LONGEST_POINTER + 1 for problem in find_unstorable(value))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problems == 20_000
    assert peak < 10_000_000


def test_a_walk_tells_pointers_and_levels_in_document_order_and_ends_below_the_limit() -> None:
    assert list(walk({"a/b": [1, {"": None}], "c": "x"}, "/input")) == [
        ("/input", {"a/b": [1, {"": None}], "c": "x"}, 1),
        ("/input/a~1b", [1, {"": None}], 2),
        ("/input/a~1b/0", 1, 3),
        ("/input/a~1b/1", {"": None}, 3),
        ("/input/a~1b/1/", None, 4),
        ("/input/c", "x", 2),
    ]
    assert max(depth for _, _, depth in walk(nested(50_000, "list"))) == MAX_DEPTH + 1


def test_a_pointer_that_is_too_long_is_cut_once() -> None:
    whole = join_pointer("", "k" * (LONGEST_POINTER - 1))
    assert len(whole) == LONGEST_POINTER
    cut = join_pointer(whole, "x")
    assert cut == join_pointer(cut, "y") == whole + "…"


@given(token=st.text())
def test_an_escaped_token_has_no_slash_and_can_be_read_back(token: str) -> None:
    escaped = escape_pointer(token)
    assert "/" not in escaped
    assert escaped.replace("~1", "/").replace("~0", "~") == token


@given(storable)
def test_a_copy_is_equal_and_shares_nothing_that_can_be_changed(value: JsonValue) -> None:
    copy = own_copy(value)
    assert copy == value
    shared = {id(item) for _, item, _ in walk(value)} & {id(item) for _, item, _ in walk(copy)}
    assert not [item for _, item, _ in walk(copy) if isinstance(item, dict | list) and id(item) in shared]


def test_what_is_like_a_list_or_an_object_is_copied_as_one() -> None:
    value: JsonValue = ({"a": MappingProxyType({"b": (1, [2])})},)
    assert own_copy(value) == [{"a": {"b": [1, [2]]}}]
