"""The protocol `openai`: the chat completions of any OpenAI-compatible server, streamed or not."""

from collections.abc import Mapping

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.base_services.json_body import incomplete_answer, invalid_answer, parse_object
from agent_service.base_services.openai_input import chat_request
from agent_service.base_services.protocol import StreamReading
from agent_service.base_services.status_errors import reported_error
from agent_service.base_services.tool_calls import ToolCalls
from agent_service.domain.json_value import JsonObject, JsonValue

_TOKENS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "total_tokens": "total_tokens",
}


class OpenAIProtocol:
    """`POST /chat/completions`; the output is `{"text", "model", "finish_reason"}`, the usage in tokens."""

    path = "/chat/completions"

    def __init__(self, model: str | None) -> None:
        self._model = model

    def request_body(self, call: BaseServiceCall) -> JsonObject:
        return chat_request(call.input, self._model)

    def read_object(self, body: JsonObject) -> BaseServiceAnswer:
        choice = _first_choice(body)
        if choice is None:
            raise invalid_answer('an answer without "choices"')
        message = _object(choice, "message")
        finish_reason = choice.get("finish_reason")
        if not isinstance(finish_reason, str):
            raise incomplete_answer('its "finish_reason"')
        output: dict[str, JsonValue] = {
            "text": _text(message, "content"),
            "model": body.get("model", self._model),
            "finish_reason": finish_reason,
        }
        if message.get("tool_calls"):
            output["tool_calls"] = message["tool_calls"]
        return BaseServiceAnswer(output=output, usage=_usage(body))

    def read_stream(self) -> StreamReading:
        return _OpenAIReading(self._model)


class _OpenAIReading:
    """
    The first choice of a streamed completion.

    Its end is `[DONE]`, or the end of the body for servers that leave it out; a `finish_reason` must
    have come before, or the text could be cut short without a sign.
    """

    def __init__(self, model: str | None) -> None:
        self.ended = False
        self._model: JsonValue = model
        self._text: list[str] = []
        self._tool_calls = ToolCalls()
        self._finish_reason: str | None = None
        self._usage: JsonObject | None = None

    def take(self, data: str) -> str:
        if data.strip() == "[DONE]":
            self.ended = True
            return ""
        chunk = parse_object(data)
        choice = _first_choice(chunk)
        self._model = chunk.get("model") or self._model
        self._usage = _usage(chunk) or self._usage
        if choice is None:
            return ""
        delta = _object(choice, "delta")
        self._tool_calls.take(delta.get("tool_calls"))
        finish_reason = choice.get("finish_reason")
        if isinstance(finish_reason, str):
            self._finish_reason = finish_reason
        text = _text(delta, "content")
        self._text.append(text)
        return text

    def answer(self) -> BaseServiceAnswer:
        if self._finish_reason is None:
            raise incomplete_answer('its "finish_reason"')
        output: dict[str, JsonValue] = {
            "text": "".join(self._text),
            "model": self._model,
            "finish_reason": self._finish_reason,
        }
        if self._tool_calls:
            output["tool_calls"] = self._tool_calls.whole()
        return BaseServiceAnswer(output=output, usage=self._usage)


def _first_choice(body: JsonObject) -> JsonObject | None:
    """The choice of index 0, the only one that was asked for; None in a chunk that has none."""
    if body.get("error"):
        raise reported_error(body["error"])
    choices = body.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, list):
        raise invalid_answer('"choices" that are no list')
    for choice in choices:
        if not isinstance(choice, Mapping):
            raise invalid_answer("a choice that is no object")
        if choice.get("index", 0) == 0:
            return choice
    return None


def _object(owner: JsonObject, name: str) -> JsonObject:
    value = owner.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid_answer(f'a "{name}" that is no object')
    return value


def _text(owner: JsonObject, name: str) -> str:
    value = owner.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_answer(f'a "{name}" that is no text')
    return value


def _usage(body: JsonObject) -> JsonObject | None:
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    known = {ours: usage[theirs] for theirs, ours in _TOKENS.items() if isinstance(usage.get(theirs), int)}
    return known or None
