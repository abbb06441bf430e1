r"""
Templates: text in a step's input that is filled in just before the step runs.

`{{ path.to.value }}` stands for a value of the scope; blanks inside the braces do not matter. The parts
of a path are letters, digits, `_` and `-`; each is looked up as a key of an object or, written as a decimal
number, as an index of a list. There are no attributes, calls or filters.

- Text that is exactly one placeholder becomes the value, with its type.
- Inside other text, strings are put as they are and everything else as compact JSON.
- What was put in is never read as a template again, and keys of objects are no templates.
- `\{{` is a literal `{{` (in a JSON document the backslash itself is written twice).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from agent_service.domain.errors import TemplateError
from agent_service.domain.json_value import MAX_DEPTH, JsonValue, find_unstorable, join_pointer, walk

#: Characters that all filled-in strings of one value may have together.
MAX_CHARACTERS = 4 * 1024 * 1024

_OPEN, _CLOSE = "{{", "}}"
_SEGMENT = re.compile(r"[\w-]+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_SHOWN_KEYS = 10
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    """One `{{ … }}`: the path it names, and the JSON Pointer and the offset of where it stands."""

    path: tuple[str, ...]
    pointer: str
    position: int
    text: str


def is_template(value: JsonValue) -> bool:
    """Whether anything in `value` would be filled in; all that is not stays as it is."""
    stack: list[JsonValue] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if _OPEN in item:
                return True
        elif isinstance(item, dict | Mapping):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return False


def placeholders(value: JsonValue) -> tuple[Placeholder, ...]:
    """Every placeholder in `value`, in document order; raises TemplateError for a malformed one."""
    return tuple(
        part
        for pointer, text in find_strings(value)
        for part in _parse(text, pointer)
        if isinstance(part, Placeholder)
    )


def find_strings(value: JsonValue, pointer: str = "") -> Iterator[tuple[str, str]]:
    """
    Every string in `value` with its JSON Pointer, in document order, keys of objects left out.

    Raises TemplateError for nesting over MAX_DEPTH levels.
    """
    for where, item, depth in walk(value, pointer):
        if isinstance(item, str):
            yield where, item
        elif depth > MAX_DEPTH and isinstance(item, Mapping | list | tuple):
            raise _too_deep()


def resolve(path: Sequence[str], scope: Mapping[str, JsonValue]) -> JsonValue:
    """The value that `path` names in `scope`; raises TemplateError saying what was there instead."""
    value: JsonValue = scope
    for depth, segment in enumerate(path):
        if isinstance(value, Mapping):
            if segment in value:
                value = value[segment]
                continue
        elif isinstance(value, list | tuple) and _INDEX.fullmatch(segment) and int(segment) < len(value):
            value = value[int(segment)]
            continue
        raise TemplateError(_missing(path, depth, value))
    return value


def render(
    value: JsonValue,
    scope: Mapping[str, JsonValue],
    *,
    max_characters: int = MAX_CHARACTERS,
) -> JsonValue:
    """
    `value` with every placeholder filled in from `scope`.

    What a placeholder alone stands for is the scope's own object, not a copy. The result may be nested
    deeper than `value`. Raises TemplateError for a malformed placeholder, a missing value, a value that is
    not JSON, nesting over MAX_DEPTH levels, and filled-in text of more than `max_characters`.
    """
    return _Rendering(scope, max_characters).render(value, "", 1)


class _Rendering:
    """One call of `render`: what was looked up so far, and the characters that are left."""

    def __init__(self, scope: Mapping[str, JsonValue], max_characters: int) -> None:
        self._scope = scope
        self._max_characters = max_characters
        self._left = max_characters
        self._found: dict[tuple[str, ...], tuple[JsonValue, str]] = {}

    def render(self, value: JsonValue, pointer: str, depth: int) -> JsonValue:
        if isinstance(value, str):
            return self._fill(value, pointer) if _OPEN in value else value
        if not isinstance(value, Mapping | list | tuple):
            return value
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, Mapping):
            return {
                key: self.render(child, join_pointer(pointer, str(key)), depth + 1)
                for key, child in value.items()
            }
        return [self.render(child, join_pointer(pointer, str(i)), depth + 1) for i, child in enumerate(value)]

    def _fill(self, text: str, pointer: str) -> JsonValue:
        parts = _parse(text, pointer)
        if len(parts) == 1 and isinstance(parts[0], Placeholder):
            value, as_text = self._look_up(parts[0])
            self._spend(len(as_text))
            return value
        pieces = []
        for part in parts:
            piece = part if isinstance(part, str) else self._look_up(part)[1]
            self._spend(len(piece))
            pieces.append(piece)
        return "".join(pieces)

    def _look_up(self, placeholder: Placeholder) -> tuple[JsonValue, str]:
        """The value and its text; remembered, since one large value may be named many times."""
        found = self._found.get(placeholder.path)
        if found is None:
            where = _where(placeholder.pointer, placeholder.position)
            try:
                value = resolve(placeholder.path, self._scope)
            except TemplateError as error:
                raise TemplateError(f"{where}: {error}") from None
            found = self._found[placeholder.path] = value, _as_text(value, where)
        return found

    def _spend(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise TemplateError(f"the filled-in text has more than {self._max_characters} characters")


def _parse(text: str, pointer: str) -> list[str | Placeholder]:
    """The literal parts and placeholders of `text`, in order, in time linear in its length."""
    parts: list[str | Placeholder] = []
    literal: list[str] = []
    position = 0
    while (start := text.find(_OPEN, position)) >= 0:
        if start > position and text[start - 1] == "\\":
            literal += text[position : start - 1], _OPEN
            position = start + len(_OPEN)
            continue
        literal.append(text[position:start])
        placeholder = _read(text, start, pointer)
        parts += filter(None, ("".join(literal),))
        parts.append(placeholder)
        literal.clear()
        position = start + len(placeholder.text)
    literal.append(text[position:])
    parts += filter(None, ("".join(literal),))
    return parts


def _read(text: str, start: int, pointer: str) -> Placeholder:
    end = text.find(_CLOSE, start)
    if end < 0:
        raise TemplateError(
            f"{_where(pointer, start)}: the placeholder {_excerpt(text[start:])} is not closed with '}}}}'; "
            "write '\\{{' for literal braces"
        )
    whole = text[start : end + len(_CLOSE)]
    path = tuple(text[start + len(_OPEN) : end].strip().split("."))
    if not all(map(_SEGMENT.fullmatch, path)):
        raise TemplateError(
            f"{_where(pointer, start)}: {_excerpt(whole)} is not a placeholder; write "
            "'{{ path.to.value }}' with names of letters, digits, '_' and '-', or '\\{{' for literal braces"
        )
    return Placeholder(path=path, pointer=pointer, position=start, text=whole)


def _too_deep() -> TemplateError:
    return TemplateError(f"nested deeper than {MAX_DEPTH} levels")


def _as_text(value: JsonValue, where: str) -> str:
    if isinstance(value, str):
        return value
    problem = next(find_unstorable(value), None)
    if problem is not None:
        raise TemplateError(f"{where}: the value cannot be filled in: {problem.detail}")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(item: object) -> object:
    """Mappings other than dict, for the JSON encoder; nothing else gets past find_unstorable."""
    assert isinstance(item, Mapping)
    return dict(item)


def _missing(path: Sequence[str], depth: int, value: JsonValue) -> str:
    segment = _excerpt(path[depth])
    parent = ".".join(path[:depth]) or "the scope"
    if isinstance(value, Mapping):
        keys = ", ".join(_excerpt(str(key)) for key in islice(value, _SHOWN_KEYS))
        more = ", …" if len(value) > _SHOWN_KEYS else ""
        there = f"has no {segment}; it {f'has {keys}{more}' if keys else 'is empty'}"
    elif isinstance(value, list | tuple):
        there = f"is a list of {len(value)}, and {segment} is not an index in it"
    else:
        there = f"is {_kind(value)}, which has no {segment} in it"
    return f"{_excerpt('.'.join(path))} is missing: {_shorten(parent)} {there}"


def _kind(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return "text" if isinstance(value, str) else "a number"


def _where(pointer: str, position: int) -> str:
    """A place in words; the names in it are the caller's, and may hold anything."""
    if not pointer:
        return f"character {position + 1}"
    shown = pointer if pointer.isprintable() else repr(pointer)
    return f"{shown}, character {position + 1}"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _excerpt(text: str) -> str:
    """`text` quoted and short; what is not printable, lone surrogates included, is escaped."""
    return repr(_shorten(text))
