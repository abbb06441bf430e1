"""The table of mutations stays true: each place and each test that it names is there."""

import ast
import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.faults.support.mutation import Mutation, MutationError, Package, read_table
from tests.support.named_tests import is_there, rules_of_protocol

pytestmark = pytest.mark.harness

pytestmark = pytest.mark.harness

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = read_table(ROOT / "tests" / "faults" / "mutations.toml")
#: The rules of docs/protocol.md, with their numbers, and what else is broken on purpose.
RULES = {f"{number} {name.lower()}" for number, name in rules_of_protocol().items()} | {
    "durability",
    "callbacks",
}
CODE = """
    LIMIT = 3

    class Line:
        def take(self, name, *, force=False):
            self.check(name, at_most=LIMIT, force=force)
            wanted = {"name": name, "state": "pending", **self.others}
            if self.full and not force:
                return None
            return self.find(wanted)
"""


@pytest.fixture(scope="module")
def package() -> Package:
    return Package(ROOT / "agent_service")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_names_one_place_and_one_test(mutation: Mutation, package: Package) -> None:
    package.mutate(mutation)
    path, _, function = mutation.test.partition("::")
    assert function
    assert is_there(path, function.partition("[")[0])


def test_every_rule_has_a_mutation() -> None:
    assert {mutation.rule for mutation in MUTATIONS} == RULES


def written(folder: Path, files: dict[str, str]) -> Package:
    """A package `made` with these files."""
    for name, text in files.items():
        path = folder / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return Package(folder / "made")


def mutation_of(where: str, old: str, new: str) -> Mutation:
    return Mutation(rule="rule", name="what is broken", where=where, old=old, new=new, test="")


def same_code(one: str, other: str) -> bool:
    return ast.dump(ast.parse(dedent(one))) == ast.dump(ast.parse(dedent(other)))


@pytest.mark.parametrize(
    ("where", "old", "new", "text", "instead"),
    [
        pytest.param("LIMIT", "3", "4", "LIMIT = 3", "LIMIT = 4", id="what a name is assigned"),
        pytest.param("Line.take", "not force", "force", "not force", "force", id="an expression"),
        pytest.param("Line.take", "not force", "", " and not force", "", id="an operand"),
        pytest.param("Line.take", "wanted", "", "(wanted)", "()", id="an argument"),
        pytest.param("Line.take", "force=force", "", ", force=force", "", id="a keyword argument"),
        pytest.param(
            "Line.take",
            "at_most=LIMIT, force=force",
            "at_most=0, force=True, quiet=True",
            "at_most=LIMIT, force=force",
            "at_most=0, force=True, quiet=True",
            id="several keyword arguments",
        ),
        pytest.param("Line.take", "'state': 'pending'", "", '"state": "pending", ', "", id="an entry"),
        pytest.param("Line.take", "**self.others", "", ", **self.others", "", id="entries unpacked"),
        pytest.param(
            "Line",
            "if self.full and not force:\n    return None\nreturn self.find(wanted)",
            "return self.find({})",
            "if self.full and not force:\n            return None\n        return self.find(wanted)",
            "return self.find({})",
            id="statements",
        ),
        pytest.param("Line.take", "return None", "", "return None", "pass", id="all of a block"),
        pytest.param(
            "Line.take",
            "self.check(name, at_most=LIMIT, force=force)",
            "self.note()\nself.check(name)",
            "self.check(name, at_most=LIMIT, force=force)",
            "self.note(); self.check(name)",
            id="an expression that is a statement",
        ),
    ],
)
def test_any_piece_of_a_definition_is_replaced_or_left_out(
    tmp_path: Path, where: str, old: str, new: str, text: str, instead: str
) -> None:
    package = written(tmp_path, {"line.py": CODE})
    path, broken = package.mutate(mutation_of(where, old, new))
    assert path == tmp_path / "made" / "line.py"
    assert dedent(CODE).count(text) == 1
    assert same_code(broken, dedent(CODE).replace(text, instead))
    assert package.source(path) == path.read_text(encoding="utf-8") == dedent(CODE)


def test_a_definition_is_found_in_whatever_file_it_stands(tmp_path: Path) -> None:
    mutation = mutation_of("Line.take", '"state": "pending"', "")
    before = written(tmp_path / "before", {"line.py": CODE, "deep/other.py": "class Other: pass"})
    after = written(tmp_path / "after", {"line.py": "class Other: pass", "deep/other.py": CODE})
    old, broken = before.mutate(mutation)
    new, broken_too = after.mutate(mutation)
    assert (old.name, new.name) == ("line.py", "other.py")
    assert same_code(broken, broken_too)


def test_code_that_is_laid_out_anew_is_found(tmp_path: Path) -> None:
    laid_out = """
        class Line:
            def take(self):
                return self.find(
                    # Why this is asked for.
                    {'state': ('pending'),
                     "limit": -1,
                     }, limit=
                       [1,
                        2],
                )
    """
    package = written(tmp_path, {"line.py": laid_out})
    _, broken = package.mutate(mutation_of("Line.take", '"state": "pending",\n  "limit": (-1)', '"limit": 1'))
    assert "self.find({'limit': 1}, limit=[1, 2])" in broken
    _, broken = package.mutate(mutation_of("Line.take", "\n    limit=[1, 2],\n", ""))
    assert "self.find({'state': 'pending', 'limit': -1})" in broken


def test_a_name_that_several_modules_define_takes_its_module_before_it(tmp_path: Path) -> None:
    files = {"one.py": "LIMIT = 3", "two/__init__.py": "if True:\n    LIMIT: int = 3"}
    package = written(tmp_path, {**files, "three.py": "class Three:\n    LIMIT = 3"})
    message = "what is broken: LIMIT is defined in made 2 times: made.one.LIMIT, made.two.LIMIT"
    with pytest.raises(MutationError, match=re.escape(message)):
        package.mutate(mutation_of("LIMIT", "3", "4"))
    path, _ = package.mutate(mutation_of("two.LIMIT", "3", "4"))
    assert path.parent.name == "two"
    path, _ = package.mutate(mutation_of("Three.LIMIT", "3", "4"))
    assert path.name == "three.py"


@pytest.mark.parametrize(
    ("where", "old", "new", "message"),
    [
        ("Line.give", "1", "2", "Line.give is defined in made nowhere"),
        ("take", "1", "2", "take is defined in made nowhere"),
        ("wanted", '"name"', "2", "wanted is defined in made nowhere"),
        ("Line.take", "LIMIT + 1", "2", "'LIMIT + 1' stands nowhere in made.line.Line.take"),
        ("Line.take", "name", "2", "what is broken: 'name' stands 2 times (lines 6, 7) in made.line.Line"),
        ("Line.take", "force=force", "force = force", "'force = force' changes nothing"),
        ("Line.take", "force=force", "2", "'2' cannot be read as keyword arguments"),
        ("Line.take", "'state': 'pending'", "2", "'2' cannot be read as entries of a dict"),
        ("Line.take", "not force", "if", "'if' cannot be read as an expression"),
        ("Line.take", "return None", "return (", "cannot be read as statements"),
        ("Line.take", "if not", "2", "'if not' is no piece of Python"),
        ("Line.take", "", "2", "'' is no piece of Python"),
        ("Line.take", "self.closed and None", "", "stands nowhere"),
        ("Line.take", "LIMIT", "", "no expression can be left out of a keyword"),
    ],
)
def test_a_mutation_without_exactly_one_place_is_refused(
    tmp_path: Path, where: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(MutationError, match=re.escape(message)):
        written(tmp_path, {"line.py": CODE}).mutate(mutation_of(where, old, new))


def test_what_is_no_python_any_more_is_refused(tmp_path: Path) -> None:
    package = written(
        tmp_path, {"line.py": "def take():\n    try:\n        pass\n    finally:\n        end()\n"}
    )
    with pytest.raises(MutationError, match="what is broken: what is left is no Python: "):
        package.mutate(mutation_of("take", "end()", ""))
