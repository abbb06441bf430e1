"""Tool calls, put together from their parts."""

import pytest

from agent_service.base_services.tool_calls import MAX_TOOL_CALLS, ToolCalls
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.json_value import JsonValue


def test_parts_of_several_calls_are_put_together_by_index() -> None:
    calls = ToolCalls()
    assert not calls
    calls.take(None)
    calls.take([{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}])
    calls.take([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x'}}])
    calls.take(
        [{"index": 0, "function": {"arguments": '": 1}'}}, {"index": 1, "function": {"arguments": "{}"}}]
    )
    assert calls
    assert calls.whole() == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@pytest.mark.parametrize(
    "parts",
    [
        "x",
        [1],
        [{"index": -1}],
        [{"index": 10**9}],
        [{"index": "0"}],
        [{"index": 0, "function": 1}],
        [{"index": 0, "function": {"arguments": {}}}],
    ],
)
def test_broken_parts_are_an_invalid_answer(parts: JsonValue) -> None:
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        ToolCalls().take(parts)


def whole(*deltas: list[JsonValue]) -> list[JsonValue]:
    calls = ToolCalls()
    for parts in deltas:
        calls.take(parts)
    return calls.whole()


def part(arguments: str | None = None, **members: JsonValue) -> JsonValue:
    function: JsonValue = {"name": "f"} if arguments is None else {"name": "f", "arguments": arguments}
    return {"type": "function", "function": function, **members}


def test_arguments_are_kept_to_the_letter_although_they_are_no_json() -> None:
    pieces = ['{"x":  1,', ' "y": "\\u00e9', "\n", " 1e400", "\ud83d", "\ude00 \t"]
    calls = whole([part(pieces[0], index=0, id="a")], *([part(piece, index=0)] for piece in pieces[1:]))
    assert calls == [part('{"x":  1, "y": "\\u00e9\n 1e400😀 \t', id="a")]


def test_what_is_repeated_as_null_or_empty_takes_nothing_away() -> None:
    again: JsonValue = {"index": 0, "id": "", "type": None, "function": {"name": "", "arguments": "}"}}
    assert whole([part("{", index=0, id="a")], [again]) == [part("{}", id="a")]


def test_a_call_without_arguments_gets_none() -> None:
    assert whole([part(index=0, id="a")]) == [part(id="a")]
    assert whole([part("", index=0, id="a")]) == [part("", id="a")]


def test_further_members_are_kept_as_they_stand() -> None:
    signature: JsonValue = {"vendor": {"signature": "x=="}}
    assert whole([part("{}", index=0, id="a", extra_content=signature)]) == [
        part("{}", id="a", extra_content=signature)
    ]


def test_the_input_of_a_custom_tool_comes_in_pieces_too() -> None:
    first: JsonValue = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    more: JsonValue = {"index": 0, "custom": {"input": " -l"}}
    assert whole([first], [more]) == [
        {"id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}
    ]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": 0}])
def test_another_id_begins_another_call_where_the_index_says_nothing(index: dict[str, JsonValue]) -> None:
    calls = whole(
        [part("{", id="a", **index)],
        [part("}", **index)],
        [part("[", id="b", **index), part("]", id="b", **index)],
    )
    assert calls == [part("{}", id="a"), part("[]", id="b")]


def test_there_is_an_end_to_the_calls_that_are_taken() -> None:
    with pytest.raises(BaseServiceUnavailable, match="invalid_answer"):
        whole([part("", id=str(number)) for number in range(MAX_TOOL_CALLS + 1)])
