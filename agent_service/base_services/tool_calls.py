"""ToolCalls: the tool calls of a streamed completion, put together from their parts."""

from collections.abc import Mapping

from agent_service.base_services.json_body import invalid_answer
from agent_service.domain.json_value import JsonObject, JsonValue

#: More tool calls in one answer than any model makes; an index above would only cost memory.
MAX_TOOL_CALLS = 1000


class ToolCalls:
    """
    Each part names the `index` of its call; its texts continue those that came before.

    Only `arguments` come in pieces; every other member is taken as it stands, the last one wins.
    """

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, JsonValue]] = {}
        self._functions: dict[int, dict[str, JsonValue]] = {}
        self._arguments: dict[int, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, parts: JsonValue) -> None:
        """Take the `tool_calls` of one delta; raises BaseServiceUnavailable("invalid_answer")."""
        if parts is None:
            return
        if not isinstance(parts, list):
            raise invalid_answer('"tool_calls" that are no list')
        for position, part in enumerate(parts):
            if not isinstance(part, Mapping):
                raise invalid_answer("a tool call that is no object")
            self._take_part(part.get("index", position), part)

    def whole(self) -> list[JsonValue]:
        """The complete calls, in the order of their indexes, in the shape of an answer without streaming."""
        calls: list[JsonValue] = []
        for index in sorted(self._calls):
            call = dict(self._calls[index])
            if index in self._functions:
                call["function"] = {**self._functions[index], "arguments": "".join(self._arguments[index])}
            calls.append(call)
        return calls

    def _take_part(self, index: JsonValue, part: JsonObject) -> None:
        if not isinstance(index, int) or not 0 <= index < MAX_TOOL_CALLS:
            raise invalid_answer("a tool call with an index that cannot be")
        call = self._calls.setdefault(index, {})
        call.update({k: v for k, v in part.items() if k not in ("index", "function") and v is not None})
        function = part.get("function")
        if function is None:
            return
        if not isinstance(function, Mapping):
            raise invalid_answer("a tool call whose function is no object")
        known = self._functions.setdefault(index, {})
        known.update({k: v for k, v in function.items() if k != "arguments" and v is not None})
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        if not isinstance(arguments, str):
            raise invalid_answer("a tool call whose arguments are no text")
        self._arguments.setdefault(index, []).append(arguments)
