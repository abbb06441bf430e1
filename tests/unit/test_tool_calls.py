"""Tool calls, put together from their parts."""

import pytest

from agent_service.base_services.tool_calls import ToolCalls
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
