"""JsonValue: what a request may carry, and what of it MongoDB can hold (protocol, rule 15)."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from agent_service.domain.errors import FieldProblem

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]

#: Levels of nesting that are accepted; MongoDB itself refuses documents above 180.
MAX_DEPTH = 100
#: Members of one object, members of one list, and values of all kinds in one value together. A body of a few
#: bytes for each could otherwise be made of so many that handling them costs far more than sending them.
MAX_KEYS, MAX_ITEMS, MAX_VALUES = 10_000, 100_000, 250_000
#: The integers that BSON can hold.
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

_SCALARS = frozenset({str, int, float, bool, type(None)})


#: Longer pointers are cut; nobody reads them, and a value may have very many below one very long name.
LONGEST_POINTER = 1_000


def escape_pointer(token: str) -> str:
    """One token of a JSON Pointer, escaped as RFC 6901 section 3 says."""
    return token.replace("~", "~0").replace("/", "~1")


def join_pointer(pointer: str, token: str) -> str:
    """The pointer to what is called `token` in what `pointer` points to, cut if it is long."""
    if len(pointer) > LONGEST_POINTER:
        return pointer
    joined = f"{pointer}/{escape_pointer(token)}"
    return joined if len(joined) <= LONGEST_POINTER else joined[:LONGEST_POINTER] + "…"


def walk(value: object, pointer: str = "") -> Iterator[tuple[str, object, int]]:
    """
    Every value inside `value`, itself first, with its pointer and its level (from 1), in document order.

    Of what is too deep the first level is told, and nothing below. The stack is its own and holds nothing but
    places, so that neither depth nor breadth costs more memory than the value itself.
    """
    stack: list[Iterator[tuple[str, object]]] = [iter([(pointer, value)])]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        where, item = found
        yield where, item, len(stack)
        if isinstance(item, str) or len(stack) > MAX_DEPTH:
            continue
        if isinstance(item, dict | Mapping):
            stack.append(_members(where, item.items()))
        elif isinstance(item, list | tuple):
            stack.append(_members(where, enumerate(item)))


def _members(where: str, members: Iterable[tuple[object, object]]) -> Iterator[tuple[str, object]]:
    return ((join_pointer(where, str(name)), child) for name, child in members)


def find_unstorable(value: object, pointer: str = "") -> Iterator[FieldProblem]:
    """Every place in `value` that cannot be stored, in document order."""
    # Nearly everything can be stored, and then nobody asks for places.
    if _is_storable(value):
        return
    values = 1
    for where, item, depth in walk(value, pointer):
        if not _is_unicode(where):
            # The object above has told of the name that no pointer can hold.
            continue
        detail = _problem(item, depth)
        if detail is not None:
            yield FieldProblem(pointer=where, detail=detail)
        values += len(item) if isinstance(item, Mapping | list | tuple) else 0
        if values > MAX_VALUES:
            yield FieldProblem(pointer=pointer, detail=f"must hold at most {MAX_VALUES} values in all")
            return
        if isinstance(item, Mapping):
            for problem in filter(None, map(_key_problem, item)):
                yield FieldProblem(pointer=where, detail=problem)


def _is_storable(value: object) -> bool:
    # The types first that nearly everything has: whether something is a `Mapping` is slow to ask.
    level: list[Any] = [value]
    depth = values = 1
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind in _SCALARS:
                # Most are texts of ASCII.
                if not (kind is str and item.isascii()) and _scalar_problem(item) is not None:
                    return False
                continue
            inside = _inside(item, depth)
            if inside is None or values + len(below) + len(inside) > MAX_VALUES:
                return False
            below += inside
        level, depth, values = below, depth + 1, values + len(below)
    return True


def _inside(item: object, depth: int) -> Collection[object] | None:
    """The values that this one holds itself; None if it cannot be stored."""
    if type(item) is not dict and isinstance(item, list | tuple):
        return None if depth > MAX_DEPTH or len(item) > MAX_ITEMS else item
    if not isinstance(item, dict | Mapping):
        return None if _scalar_problem(item) else ()
    if depth > MAX_DEPTH or len(item) > MAX_KEYS:
        return None
    for key in item:
        if not (type(key) is str and key.isascii() and "\0" not in key) and _key_problem(key) is not None:
            return None
    return item.values()


def _problem(item: object, depth: int) -> str | None:
    if not isinstance(item, Mapping | list | tuple):
        return _scalar_problem(item)
    if depth > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH} levels"
    if isinstance(item, Mapping):
        return f"must have at most {MAX_KEYS} names, not {len(item)}" if len(item) > MAX_KEYS else None
    return f"must have at most {MAX_ITEMS} members, not {len(item)}" if len(item) > MAX_ITEMS else None


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return f"object keys must be strings, not {type(key).__name__}"
    if "\0" in key:
        return "object keys must not contain the character NUL"
    if not _is_unicode(key):
        return "object keys must be valid Unicode, without lone surrogates"
    return None


def _scalar_problem(item: object) -> str | None:
    if isinstance(item, str):
        return None if _is_unicode(item) else "text must be valid Unicode, without lone surrogates"
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int):
        if MIN_INTEGER <= item <= MAX_INTEGER:
            return None
        return "integers must fit into 64 bits; send larger ones as strings"
    if isinstance(item, float):
        return None if item - item == 0 else "numbers must be finite; NaN and Infinity are not JSON"
    return f"{type(item).__name__} is not a JSON value"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def own_copy(value: JsonValue) -> JsonValue:
    """The same value, in lists and objects that nobody else has. Raises `RecursionError` if too deep."""
    # The types first that nearly everything has, and no call for what most of it is.
    if type(value) in _SCALARS:
        return value
    if isinstance(value, dict | Mapping):
        return {key: child if type(child) in _SCALARS else own_copy(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [child if type(child) in _SCALARS else own_copy(child) for child in value]
    return value
