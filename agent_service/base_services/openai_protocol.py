"""The protocol `openai`: the chat completions of any OpenAI-compatible server, streamed or not."""

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.base_services.json_body import incomplete_answer, invalid_answer, parse_object
from agent_service.base_services.openai_chunk import (
    content_of,
    first_choice,
    model_of,
    object_of,
    reasoning_of,
    refusal_of,
    usage_of,
)
from agent_service.base_services.openai_input import chat_request
from agent_service.base_services.protocol import StreamReading
from agent_service.base_services.surrogates import TextPieces, paired
from agent_service.base_services.tool_calls import ToolCalls
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject, JsonValue

#: Reasons that tell of no end of the model's own: the server gave the answer up.
_BROKEN_OFF = frozenset({"abort", "error"})


class OpenAIProtocol:
    """
    `POST /chat/completions`; the usage is in tokens.

    The output is `{"text", "model", "finish_reason"}`, and `tool_calls`, `refusal` and `reasoning` where the
    answer has them: the same whether it was streamed or not.
    """

    path = "/chat/completions"
    #: llama.cpp closes after each stream, having promised to stay: the next call would come too late.
    keeps_connections = False

    def __init__(self, model: str | None) -> None:
        self._model = model

    def request_body(self, call: BaseServiceCall) -> JsonObject:
        return chat_request(call.input, self._model)

    def read_object(self, body: JsonObject) -> BaseServiceAnswer:
        choice = first_choice(body)
        if choice is None:
            raise invalid_answer('an answer without "choices"')
        message = object_of(choice, "message")
        return _answer(
            text=paired(content_of(message)),
            model=model_of(body) or self._model,
            finish_reason=choice.get("finish_reason"),
            others={
                "tool_calls": message.get("tool_calls"),
                "refusal": paired(refusal_of(message)),
                "reasoning": paired(reasoning_of(message)),
            },
            usage=usage_of(body),
        )

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
        self._model = model
        self._pieces = TextPieces()
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls = ToolCalls()
        self._finish_reason: str | None = None
        self._usage: JsonObject | None = None

    def take(self, data: str) -> str:
        data = data.strip()
        if data == "[DONE]":
            self.ended = True
            return ""
        if not data:
            return ""  # some send it to keep the connection alive
        chunk = parse_object(data)
        choice = first_choice(chunk)
        self._model = model_of(chunk) or self._model
        self._usage = usage_of(chunk) or self._usage
        return "" if choice is None else self._take_choice(choice)

    def answer(self) -> BaseServiceAnswer:
        return _answer(
            text="".join(self._text),
            model=self._model,
            finish_reason=self._finish_reason,
            others={
                "tool_calls": self._tool_calls.whole(),
                "refusal": paired("".join(self._refusal)),
                "reasoning": paired("".join(self._reasoning)),
            },
            usage=self._usage,
        )

    def _take_choice(self, choice: JsonObject) -> str:
        delta = object_of(choice, "delta")
        finish_reason = choice.get("finish_reason")
        if isinstance(finish_reason, str):
            self._finish_reason = finish_reason
        self._tool_calls.take(delta.get("tool_calls"))
        self._refusal.append(refusal_of(delta))
        self._reasoning.append(reasoning_of(delta))
        text = self._pieces.take(content_of(delta), last=self._finish_reason is not None)
        self._text.append(text)
        return text


def _answer(
    *,
    text: str,
    model: str | None,
    finish_reason: JsonValue,
    others: JsonObject,
    usage: JsonObject | None,
) -> BaseServiceAnswer:
    if not isinstance(finish_reason, str):
        raise incomplete_answer('its "finish_reason"')
    if finish_reason in _BROKEN_OFF:
        said = f'the base service gave its answer up, with "finish_reason": "{finish_reason}"'
        raise BaseServiceUnavailable("server_error", said, answered=True)
    output: dict[str, JsonValue] = {"text": text, "model": model, "finish_reason": finish_reason}
    output |= {name: value for name, value in others.items() if value}
    return BaseServiceAnswer(output=output, usage=usage)
