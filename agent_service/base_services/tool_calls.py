"""ToolCalls: the tool calls of a streamed completion, put together from their parts."""

from collections.abc import Mapping

from agent_service.base_services.json_body import invalid_answer
from agent_service.base_services.surrogates import paired
from agent_service.domain.json_value import JsonObject, JsonValue

#: More tool calls in one answer than any model makes; each further one would only cost memory.
MAX_TOOL_CALLS = 1000

#: What a call asks for, by its type, and the text in it that comes in pieces.
_STREAMED = {"function": "arguments", "custom": "input"}


class ToolCalls:
    """
    Each part names the `index` of its call; its texts continue those that came before.

    The texts of `arguments` and `input` are put together as they are, and never read. Every other member is
    taken as it stands; the last one that says something wins. Servers that leave the index out, or give the
    same one to all, are understood by the `id`: another id begins another call.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def take(self, parts: JsonValue) -> None:
        """Take the `tool_calls` of one delta; raises BaseServiceUnavailable("invalid_answer")."""
        if parts is None:
            return
        if not isinstance(parts, list):
            raise invalid_answer('"tool_calls" that are no list')
        for part in parts:
            if not isinstance(part, Mapping):
                raise invalid_answer("a tool call that is no object")
            self._find(part).take(part)

    def whole(self) -> list[JsonValue]:
        """The complete calls, in the order of their indexes, in the shape of an answer without streaming."""
        # Sorting is stable: calls that share an index stay in the order in which they began.
        return [call.whole() for call in sorted(self._calls, key=lambda call: call.index)]

    def _find(self, part: JsonObject) -> "_Call":
        index = part.get("index")
        if index is None:
            return self._find_without_index(part)
        if not isinstance(index, int) or not 0 <= index < MAX_TOOL_CALLS:
            raise invalid_answer("a tool call with an index that cannot be")
        known = self._by_index.get(index)
        return known if known is not None and known.may_be(part) else self._begin(index)

    def _find_without_index(self, part: JsonObject) -> "_Call":
        named = part.get("id")
        known = next((call for call in self._calls if named and call.id == named), None)
        if known is not None:
            return known
        if self._calls and self._calls[-1].may_be(part):
            return self._calls[-1]
        return self._begin(max((call.index for call in self._calls), default=-1) + 1)

    def _begin(self, index: int) -> "_Call":
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise invalid_answer(f"more than {MAX_TOOL_CALLS} tool calls")
        call = _Call(index)
        self._calls.append(call)
        self._by_index[index] = call
        return call


class _Call:
    """One call, as far as it has come."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._members: dict[str, JsonValue] = {}
        self._asked: dict[str, dict[str, JsonValue]] = {}
        self._texts: dict[str, list[str]] = {}

    @property
    def id(self) -> JsonValue:
        return self._members.get("id")

    def may_be(self, part: JsonObject) -> bool:
        """Whether the part continues this call, by its id: without one it does."""
        return not part.get("id") or not self.id or part["id"] == self.id

    def take(self, part: JsonObject) -> None:
        others = {name: value for name, value in part.items() if name != "index" and name not in _STREAMED}
        _update(self._members, others)
        for kind, streamed in _STREAMED.items():
            asked = part.get(kind)
            if asked is None:
                continue
            if not isinstance(asked, Mapping):
                raise invalid_answer(f"a tool call whose {kind} is no object")
            others = {name: value for name, value in asked.items() if name != streamed}
            _update(self._asked.setdefault(kind, {}), others)
            self._take_text(kind, asked.get(streamed))

    def whole(self) -> JsonObject:
        asked: dict[str, JsonValue] = {}
        for kind, members in self._asked.items():
            texts = self._texts.get(kind)
            text = {} if texts is None else {_STREAMED[kind]: paired("".join(texts))}
            asked[kind] = {**members, **text}
        return {**self._members, **asked}

    def _take_text(self, kind: str, text: JsonValue) -> None:
        if text is None:
            return
        if not isinstance(text, str):
            raise invalid_answer(f"a tool call whose {_STREAMED[kind]} are no text")
        self._texts.setdefault(kind, []).append(text)


def _update(known: dict[str, JsonValue], said: JsonObject) -> None:
    """Some servers repeat every member in every part, with null or empty text for what was said before."""
    for name, value in said.items():
        if value is not None and (value != "" or name not in known):
            known[name] = value
