"""Shown values: how messages name a value that somebody sent."""

import json
from collections.abc import Collection, Mapping

#: Characters of a text that are shown.
SHOWN_CHARACTERS = 80
_LONGEST_NUMBER = 10**15


def quoted(names: Collection[str]) -> str:
    """Names, in a list."""
    return ", ".join(f'"{name}"' for name in names)


def shown(value: object) -> str:
    """A short value for a message; anything that could be long or deep is only named."""
    if isinstance(value, int | float) and abs(value) < _LONGEST_NUMBER:
        return json.dumps(value)
    if not isinstance(value, str):
        return kind(value)
    return repr(value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "…")


def kind(value: object) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return "text" if isinstance(value, str) else type(value).__name__
