"""
Mutations of the code: each finds its place in the syntax tree, not in the text of a file.

A definition is a function, a class, or an assignment to a name. A fragment of one is an
expression, or a run of statements, of keyword arguments or of entries of a dict.
"""

import ast
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: The lists of expressions that one can be left out of. What is left of `a and b` then is `a`.
_SHORTENED = {
    (ast.BoolOp, "values"),
    (ast.Call, "args"),
    (ast.List, "elts"),
    (ast.Set, "elts"),
    (ast.Tuple, "elts"),
}


class MutationError(Exception):
    """A mutation that cannot be applied: it has no place, or several, or changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """
    One piece of the code taken away or turned round, and the test that must notice.

    `where` is the qualified name of a definition, such as `ClaimCollection._won`. Where several modules
    have one of that name, the module goes before it: `claims._COUNTED`. `old` stands once inside of
    the definition; an empty `new` removes it.
    """

    rule: str
    name: str
    where: str
    old: str
    new: str
    test: str


def read_table(path: Path) -> list[Mutation]:
    """All mutations in the order of the file."""
    return [Mutation(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]]


#: A node, or an entry of a dict: its key, which is None for `**others`, and its value.
_Part = ast.AST | tuple[ast.expr | None, ast.expr]


class _Kind(Enum):
    STATEMENTS = "statements"
    EXPRESSION = "an expression"
    KEYWORDS = "keyword arguments"
    ENTRIES = "entries of a dict"

    def parse(self, text: str) -> Sequence[_Part]:
        """What a text says as a fragment of this kind. Raises `ValueError`."""
        try:
            parts = self._parts(textwrap.dedent(text).strip())
        except SyntaxError:
            parts = None
        if parts is None:
            raise ValueError(f"{text!r} cannot be read as {self.value}")
        return parts

    def _parts(self, text: str) -> Sequence[_Part] | None:
        if not text:
            return []
        if self is _Kind.STATEMENTS:
            return ast.parse(text).body
        brackets = {_Kind.EXPRESSION: "(\n{}\n)", _Kind.KEYWORDS: "f(\n{}\n)", _Kind.ENTRIES: "{{\n{}\n}}"}
        parsed = ast.parse(brackets[self].format(text), mode="eval").body
        if self is _Kind.EXPRESSION:
            return [parsed]
        if self is _Kind.KEYWORDS and isinstance(parsed, ast.Call) and not parsed.args:
            return parsed.keywords
        if self is _Kind.ENTRIES and isinstance(parsed, ast.Dict):
            return _entries(parsed)
        return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a fragment stands: in a field of a node, or, as entries of a dict, in no field of their own."""

    kind: _Kind
    node: ast.AST
    field: str
    before: Sequence[_Part]
    found: Sequence[_Part]
    after: Sequence[_Part]

    def replace(self, new: Sequence[_Part]) -> None:
        """Put something of the same kind there. Raises `ValueError` where nothing can be left out."""
        parts = [*self.before, *new, *self.after]
        if isinstance(self.node, ast.Dict) and self.kind is _Kind.ENTRIES:
            entries = [part for part in parts if isinstance(part, tuple)]
            self.node.keys = [key for key, _ in entries]
            self.node.values = [value for _, value in entries]
            return
        if not new and self.kind is _Kind.EXPRESSION and (type(self.node), self.field) not in _SHORTENED:
            raise ValueError(f"no expression can be left out of a {type(self.node).__name__}")
        if not parts and self.field == "body":
            parts = [ast.Pass()]
        is_list = isinstance(getattr(self.node, self.field), list)
        setattr(self.node, self.field, parts if is_list else parts[0])

    @property
    def line(self) -> int:
        """The line of the file in which it begins."""
        first = self.found[0]
        node = first[1] if isinstance(first, tuple) else first
        return int(getattr(node, "lineno", 0))


class Package:
    """The sources of a package, as they were when this was made."""

    def __init__(self, folder: Path) -> None:
        self._name = folder.name
        self._sources: dict[Path, str] = {}
        #: The module, the qualified name and the file of each.
        self._definitions: list[tuple[str, str, Path]] = []
        for path in sorted(folder.rglob("*.py")):
            self._sources[path] = path.read_text(encoding="utf-8")
            module = ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
            for name, _ in _definitions(ast.parse(self._sources[path])):
                self._definitions.append((module, name, path))

    def source(self, path: Path) -> str:
        """What a file of the package said."""
        return self._sources[path]

    def mutate(self, mutation: Mutation) -> tuple[Path, str]:
        """The file that a mutation breaks, and all that this file says then. Raises `MutationError`."""
        try:
            return self._mutate(mutation)
        except SyntaxError as error:
            raise MutationError(f"{mutation.name}: what is left is no Python: {error}") from error
        except ValueError as error:
            raise MutationError(f"{mutation.name}: {error}") from error

    def _mutate(self, mutation: Mutation) -> tuple[Path, str]:
        module, name, path = self._find(mutation.where)
        tree = ast.parse(self._sources[path])
        definition = dict(_definitions(tree))[name]
        places = list(_places(mutation.old, definition))
        if len(places) != 1:
            lines = ", ".join(str(place.line) for place in places)
            found = f"{len(places)} times (lines {lines})" if places else "nowhere"
            raise ValueError(f"{mutation.old!r} stands {found} in {module}.{name}")
        before = ast.dump(definition)
        places[0].replace(places[0].kind.parse(mutation.new))
        if ast.dump(definition) == before:
            raise ValueError(f"{mutation.new!r} changes nothing")
        broken = ast.unparse(tree)
        ast.parse(broken)
        return path, broken

    def _find(self, where: str) -> tuple[str, str, Path]:
        found = [
            (module, name, path)
            for module, name, path in self._definitions
            if f".{where}".endswith(f".{name}") and f".{module}.{name}".endswith(f".{where}")
        ]
        if len(found) != 1:
            names = ", ".join(f"{module}.{name}" for module, name, _ in found)
            times = f"{len(found)} times: {names}" if found else "nowhere"
            raise ValueError(f"{where} is defined in {self._name} {times}")
        return found[0]


def _definitions(parent: ast.AST, of: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The definitions below a node with their qualified names."""
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield of + child.name, child
            yield from _definitions(child, f"{of}{child.name}.")
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from ((of + target.id, child) for target in targets if isinstance(target, ast.Name))
        elif isinstance(child, ast.stmt | ast.excepthandler):
            yield from _definitions(child, of)


def _places(text: str, definition: ast.AST) -> Iterator[_Place]:
    """All places of a fragment in a definition, whichever kind of fragment it may be read as."""
    readings: dict[_Kind, Sequence[_Part]] = {}
    for kind in _Kind:
        try:
            readings[kind] = kind.parse(text)
        except ValueError:
            continue
    if not any(readings.values()):
        raise ValueError(f"{text!r} is no piece of Python")
    for kind, wanted in readings.items():
        for node in ast.walk(definition):
            # An expression that is a whole statement is found as that.
            if not (kind is _Kind.EXPRESSION and isinstance(node, ast.Expr)):
                yield from _runs(kind, wanted, node)


def _runs(kind: _Kind, wanted: Sequence[_Part], node: ast.AST) -> Iterator[_Place]:
    """The places of a fragment right below a node."""
    size = len(wanted)
    for field, parts in _lists(node, kind):
        for start in range(len(parts) - size + 1):
            found = parts[start : start + size]
            if _same(found, wanted):
                yield _Place(kind, node, field, parts[:start], found, parts[start + size :])


def _lists(node: ast.AST, kind: _Kind) -> Iterator[tuple[str, list[_Part]]]:
    """What stands right below a node."""
    if kind is _Kind.ENTRIES:
        if isinstance(node, ast.Dict):
            yield "", _entries(node)
        return
    for field, value in ast.iter_fields(node):
        yield field, value if isinstance(value, list) else [value]


def _entries(node: ast.Dict) -> list[_Part]:
    return list(zip(node.keys, node.values, strict=True))


def _same(one: object, other: object) -> bool:
    """Whether two pieces of syntax trees say the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, ast.AST):
        return all(_same(getattr(one, f, None), getattr(other, f, None)) for f in one._fields)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
