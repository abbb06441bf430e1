"""The words in which a base service says what is wrong, made safe for a log line and a stored error."""

import json
import unicodedata
from collections.abc import Mapping

#: Characters of a service's own message that are kept.
LONGEST_MESSAGE = 500

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Where a message may stand, the most telling place first; each may hold an object of the same kind.
_MESSAGE_FIELDS = ("error", "detail", "message", "title", "error_description")
_DEEPEST = 10


def find_error(content_type: str, body: bytes) -> object:
    """What the body of an error says: JSON, or text; empty when it says nothing, as an HTML page does."""
    text = body.decode(errors="replace").strip()
    if "html" in content_type.lower() or text.startswith("<"):
        return ""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def message_of(value: object) -> str:
    """The message of a problem (RFC 9457), of OpenAI's `error` object, or of any other JSON value."""
    for _ in range(_DEEPEST):
        if not isinstance(value, Mapping):
            break
        field = next((field for field in _MESSAGE_FIELDS if value.get(field)), None)
        if field is None:
            break
        value = value[field]
    return clean(value) if isinstance(value, str) else _compact(value)


def clean(text: str) -> str:
    """`text` in one line, without control characters, and not longer than a message may be."""
    # Cut first as well: a body may be large, and only the beginning can matter.
    kept = text[: 4 * LONGEST_MESSAGE]
    visible = "".join(" " if unicodedata.category(c) in _UNSAFE_CATEGORIES else c for c in kept)
    line = " ".join(visible.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _compact(value: object) -> str:
    if value in (None, {}, []):
        return ""
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return ""
