"""What a chat completion or one chunk of it says, read the same way from every server."""

from collections.abc import Mapping

from agent_service.base_services.json_body import invalid_answer
from agent_service.base_services.status_errors import reported_error
from agent_service.domain.json_value import JsonObject, JsonValue

#: Names that servers give to the same text, in the order in which they are looked for.
_REASONING = ("reasoning_content", "reasoning")
_TOKENS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "total_tokens": "total_tokens",
}
_TOKEN_DETAILS = {
    ("prompt_tokens_details", "cached_tokens"): "cached_input_tokens",
    ("completion_tokens_details", "reasoning_tokens"): "reasoning_tokens",
}
#: More than this is no count of tokens, and could not be stored.
_MOST_TOKENS = 2**53


def first_choice(body: JsonObject) -> JsonObject | None:
    """
    The choice of index 0, the only one that is asked for; None in a chunk that has none.

    Raises BaseServiceError for an error that the body reports, and for a shape that cannot be.
    """
    if body.get("error"):
        raise reported_error(body["error"])
    if body.get("object") == "error":
        raise reported_error(body)
    choices = body.get("choices")
    if choices is None:
        return None
    if not isinstance(choices, list):
        raise invalid_answer('"choices" that are no list')
    for choice in choices:
        if not isinstance(choice, Mapping):
            raise invalid_answer("a choice that is no object")
        if choice.get("index") in (0, None):
            return choice
    return None


def object_of(owner: JsonObject, name: str) -> JsonObject:
    """The object `name`, empty where it is null; raises BaseServiceUnavailable("invalid_answer")."""
    value = owner.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise invalid_answer(f'a "{name}" that is no object')
    return value


def content_of(message: JsonObject) -> str:
    """
    The text of a message or delta: its `content`, or the parts of type `text` in it.

    Raises BaseServiceUnavailable("invalid_answer"): text that cannot be read must not be missing unnoticed.
    """
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid_answer('a "content" that is no text')
    return "".join(_text_of_part(part) for part in content)


def refusal_of(message: JsonObject) -> str:
    """Why the model does not answer, in its own words; empty where it does."""
    refusal = message.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def reasoning_of(message: JsonObject) -> str:
    """What the model thought before it answered, where the server shows it."""
    texts = (message.get(name) for name in _REASONING)
    return next((text for text in texts if isinstance(text, str) and text), "")


def model_of(body: JsonObject) -> str | None:
    """The name of the model, if the server says it."""
    model = body.get("model")
    return model if isinstance(model, str) and model else None


def usage_of(body: JsonObject) -> JsonObject | None:
    """The counts of tokens that can be made sense of; None where there are none."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    found = {ours: usage.get(theirs) for theirs, ours in _TOKENS.items()}
    for (group, theirs), ours in _TOKEN_DETAILS.items():
        details = usage.get(group)
        found[ours] = details.get(theirs) if isinstance(details, Mapping) else None
    return {name: count for name, count in found.items() if _is_count(count)} or None


def _text_of_part(part: JsonValue) -> str:
    if not isinstance(part, Mapping):
        raise invalid_answer('a part of a "content" that is no object')
    text = part.get("text")
    return text if part.get("type") == "text" and isinstance(text, str) else ""


def _is_count(value: JsonValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
