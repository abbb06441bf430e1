"""The input of a step, as the body of a chat completion."""

from collections.abc import Mapping

from agent_service.domain.errors import BaseServiceRejected
from agent_service.domain.json_value import JsonObject, JsonValue

#: Parameters that go to the server as they are; it checks their values. `n` is none: one answer is asked for.
PARAMETERS = frozenset(
    {
        "chat_template_kwargs",
        "frequency_penalty",
        "logit_bias",
        "max_completion_tokens",
        "max_tokens",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "reasoning_effort",
        "repeat_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user",
        "verbosity",
    }
)
_OWN = frozenset({"template", "system", "messages", "stream", "model"})


def chat_request(step_input: JsonValue, model: str | None) -> JsonObject:
    """
    The request body; streamed unless the input says `"stream": false`.

    Raises BaseServiceRejected("invalid_input") that names the field. A misspelt parameter is refused, not
    dropped: a text made without its limit is worse than none.
    """
    if not isinstance(step_input, Mapping):
        raise _invalid('the input must be an object with "template" or "messages"')
    unknown = sorted(step_input.keys() - PARAMETERS - _OWN)
    if unknown:
        raise _invalid(f"unknown fields: {', '.join(map(repr, unknown[:10]))}")
    body: dict[str, JsonValue] = {"messages": _messages(step_input)}
    chosen = _model(step_input, model)
    if chosen is not None:
        body["model"] = chosen
    body |= {name: step_input[name] for name in sorted(PARAMETERS & step_input.keys())}
    stream = step_input.get("stream", True)
    if not isinstance(stream, bool):
        raise _invalid('"stream" must be true or false')
    body["stream"] = stream
    if stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _messages(step_input: JsonObject) -> list[JsonValue]:
    if ("template" in step_input) == ("messages" in step_input):
        raise _invalid('the input needs either "template" or "messages"')
    if "messages" in step_input:
        if "system" in step_input:
            raise _invalid('"system" goes with "template"; in "messages" write a message of that role')
        return _checked_messages(step_input["messages"])
    template, system = step_input["template"], step_input.get("system")
    if not isinstance(template, str):
        raise _invalid('"template" must be text')
    if system is not None and not isinstance(system, str):
        raise _invalid('"system" must be text')
    user: JsonObject = {"role": "user", "content": template}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def _checked_messages(messages: JsonValue) -> list[JsonValue]:
    if not isinstance(messages, list | tuple) or not messages:
        raise _invalid('"messages" must be a list with at least one message')
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _invalid(f'"messages" {number} must be an object with a "role"')
    return list(messages)


def _model(step_input: JsonObject, configured: str | None) -> str | None:
    asked = step_input.get("model")
    if asked is not None and not isinstance(asked, str):
        raise _invalid('"model" must be text')
    if asked is not None and configured is not None and asked != configured:
        raise _invalid('the "model" of this service is set by its operator; leave it out')
    return configured if asked is None else asked


def _invalid(message: str) -> BaseServiceRejected:
    return BaseServiceRejected("invalid_input", message)
