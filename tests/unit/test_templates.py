"""Templates: what is filled in, what is refused, and that nothing else can happen."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.errors import TemplateError
from agent_service.domain.json_value import MAX_DEPTH, JsonValue
from agent_service.domain.templates import Placeholder, find_strings, placeholders, render, resolve

SCOPE: dict[str, JsonValue] = {
    "vars": {"name": "Ada", "count": 3, "ratio": 0.5, "none": None, "yes": True, "list": ["a", {"b": "ö"}]},
    "steps": {"draft": {"output": {"text": "{{ vars.name }}"}}},
}

fragments = st.sampled_from(
    ["{{", "}}", "\\", "{", "}", " ", ".", "vars", "name", "vars.name", "x", "|", "\ud800"]
)
templated = st.lists(fragments | st.text(max_size=3), max_size=10).map("".join)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | templated
keys = st.sampled_from(["vars", "name", "x", "0"]) | st.text(max_size=3)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)


def nested(depth: int, core: JsonValue = "{{ vars.name }}") -> JsonValue:
    for _ in range(depth):
        core = [core]
    return core


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ vars.count }}", 3),
        ("{{vars.none}}", None),
        ("{{\n vars.list \t}}", ["a", {"b": "ö"}]),
        ("{{ vars.list.1.b }}", "ö"),
        ("Hello {{ vars.name }}, {{vars.count}}!", "Hello Ada, 3!"),
        ("{{ vars.yes }}/{{ vars.none }}/{{ vars.ratio }}", "true/null/0.5"),
        (" {{ vars.list }}", ' ["a",{"b":"ö"}]'),
        ("{{ vars.name }}{{ vars.name }}", "AdaAda"),
        (r"\{{ vars.name }}", "{{ vars.name }}"),
        (r"\{{{{ vars.name }}", "{{Ada"),
        (r"a\{{ b {{ vars.name }} \{{", "a{{ b Ada {{"),
        ("a }} {b} \\", "a }} {b} \\"),
        ({"{{ vars.name }}": ["{{ vars.name }}", 1, None]}, {"{{ vars.name }}": ["Ada", 1, None]}),
    ],
)
def test_placeholders_are_filled_in(template: JsonValue, expected: JsonValue) -> None:
    rendered = render(template, SCOPE)
    assert rendered == expected
    assert type(rendered) is type(expected)


@pytest.mark.parametrize(
    "template",
    ["{{ }}", "{{}}", "{{ a..b }}", "{{ .a }}", "{{ a. }}", "{{ a | upper }}", "{{ a b }}", "{{ a() }}",
     "{{ a[0] }}", "{{ a", "{{ a }", "{{{ a }}}", "{{ {{ a }} }}", "{{ a . b }}"],
)  # fmt: skip
def test_a_malformed_placeholder_is_an_error_that_says_where(template: str) -> None:
    for action in (placeholders, lambda value: render(value, SCOPE)):
        with pytest.raises(TemplateError, match=r"/body/1, character 4: "):
            action({"body": ["", f"at {template}"]})


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("vars.nme", "vars has no 'nme'; it has 'name', 'count'"),
        ("var", "the scope has no 'var'; it has 'vars', 'steps'"),
        ("vars.name.first", "vars.name is text"),
        ("vars.none.x", "vars.none is null"),
        ("vars.yes.x", "vars.yes is a boolean"),
        ("vars.count.x", "vars.count is a number"),
        ("vars.list.2", "vars.list is a list of 2, and '2' is not an index"),
        ("vars.list.-1", "'-1' is not an index"),
        ("vars.list.01", "'01' is not an index"),
        ("vars.list.x", "'x' is not an index"),
        ("vars.list.append", "'append' is not an index"),
        ("vars.__class__", "has no '__class__'"),
    ],
)
def test_a_missing_value_is_an_error_that_names_the_path_and_what_was_there(path: str, there: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render({"a": f"{{{{ {path} }}}}"}, SCOPE)
    assert str(caught.value).startswith(f"/a, character 1: '{path}' is missing: ")
    assert there in str(caught.value)


def test_an_index_of_thousands_of_digits_is_missing() -> None:
    with pytest.raises(TemplateError, match="not an index"):
        render("{{ vars.list." + "1" * 10_000 + " }}", SCOPE)


def test_placeholders_tell_their_paths_and_places_in_document_order() -> None:
    value: JsonValue = {"a/b": ["x {{ vars.name }}{{ steps.s.output.0 }}"], "c": {"d": r"\{{ no }} {{c}}"}}
    assert placeholders(value) == (
        Placeholder(path=("vars", "name"), pointer="/a~1b/0", position=2, text="{{ vars.name }}"),
        Placeholder(
            path=("steps", "s", "output", "0"), pointer="/a~1b/0", position=17, text="{{ steps.s.output.0 }}"
        ),
        Placeholder(path=("c",), pointer="/c/d", position=10, text="{{c}}"),
    )


def test_find_strings_leaves_out_keys_and_other_values() -> None:
    assert list(find_strings({"k": ["a", 1, {"m~": "b"}], "n": None}, "/base")) == [
        ("/base/k/0", "a"),
        ("/base/k/2/m~0", "b"),
    ]


def test_mappings_of_other_types_are_looked_up_and_written_as_json() -> None:
    scope = MappingProxyType({"a": MappingProxyType({"b": (1, 2)})})
    assert render("{{ a.b.1 }} {{ a }}", scope) == '2 {"b":[1,2]}'


@pytest.mark.parametrize("value", [float("nan"), 2**64, {"a\0": 1}, nested(MAX_DEPTH + 1)], ids=type)
def test_a_value_that_cannot_be_json_or_stored_is_not_filled_in(value: JsonValue) -> None:
    for template in ("{{ v }}", "text {{ v }}"):
        with pytest.raises(TemplateError, match="cannot be filled in"):
            render(template, {"v": value})


def test_nesting_up_to_the_limit_is_rendered_and_beyond_it_is_an_error() -> None:
    assert render(nested(MAX_DEPTH), SCOPE) == nested(MAX_DEPTH, "Ada")
    assert len(placeholders(nested(MAX_DEPTH))) == 1
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(TemplateError, match="deeper than 100"):
            render(nested(depth), SCOPE)
        with pytest.raises(TemplateError, match="deeper than 100"):
            placeholders(nested(depth))


@pytest.mark.parametrize("template", ["{{ v }}", "{{v}}"])
def test_the_sum_of_what_is_filled_in_is_bounded(template: str) -> None:
    scope: dict[str, JsonValue] = {"v": "x" * 10, "w": list(range(5))}
    assert render([template] * 10, scope, max_characters=100) == ["x" * 10] * 10
    for value in ([template] * 11, "a" + template * 10, ["{{ w }}"] * 10):
        with pytest.raises(TemplateError, match="more than 100 characters"):
            render(value, scope, max_characters=100)


def test_text_without_placeholders_is_not_counted() -> None:
    assert render(["x" * 200, "{{ v }}"], {"v": 1}, max_characters=10) == ["x" * 200, 1]


def test_a_template_of_a_megabyte_of_braces_is_read_in_linear_time() -> None:
    for text in (
        "{{" * 500_000,
        "\\{{" * 300_000,
        "{{a}}" * 200_000,
        "{{" + " " * 1_000_000,
        "{{ " + "a." * 500_000,
    ):
        try:
            placeholders(text)
        except TemplateError as error:
            assert len(str(error)) < 500  # noqa: PT017 - some of these texts are right


@given(value=json_values, scope=st.dictionaries(keys, json_values, max_size=4), limit=st.integers(0, 50))
def test_nothing_but_a_template_error_is_ever_raised(
    value: JsonValue, scope: dict[str, JsonValue], limit: int
) -> None:
    try:
        placeholders(value)
        render(value, scope, max_characters=limit)
    except TemplateError as error:
        str(error).encode()  # The message must be fit to be sent, whatever was in the input.


@given(text=templated.filter(lambda text: "\ud800" not in text))
def test_what_was_filled_in_is_never_rendered_again(text: str) -> None:
    scope: dict[str, JsonValue] = {"vars": {"x": text, "name": "not this"}, "x": "nor this"}
    assert render("{{ vars.x }}", scope) == text
    assert render("<{{ vars.x }}|{{ vars.x }}>", scope) == f"<{text}|{text}>"
    assert render(["{{ vars }}"], scope) == [{"x": text, "name": "not this"}]
    written = render("-{{ vars }}", scope)
    assert isinstance(written, str)
    assert json.loads(written[1:])["x"] == text


@given(value=json_values, scope=st.dictionaries(keys, json_values, max_size=2))
def test_a_value_without_braces_is_unchanged(value: JsonValue, scope: dict[str, JsonValue]) -> None:
    plain = json.loads(json.dumps(value).replace("{{", "{ {").replace('"{', '"<'))
    if not any("{{" in text for _, text in find_strings(plain)):
        assert json.dumps(render(plain, scope)) == json.dumps(plain)


@given(text=st.text(), escaped=st.lists(st.text(alphabet=" {}ab.|", max_size=6)))
def test_escaped_braces_come_out_literally(text: str, escaped: list[str]) -> None:
    literal = "{{".join([text.replace("{", ""), *(part.replace("{", "") for part in escaped)])
    assert render(literal.replace("{{", "\\{{"), {}) == literal


@given(value=json_values)
def test_resolve_finds_every_value_by_its_path(value: JsonValue) -> None:
    found: list[tuple[tuple[str, ...], JsonValue]] = [(("v",), value)]
    while found:
        path, expected = found.pop()
        assert resolve(path, {"v": value}) is expected
        if isinstance(expected, dict):
            found += [((*path, key), child) for key, child in expected.items()]
        elif isinstance(expected, list):
            found += [((*path, str(i)), child) for i, child in enumerate(expected)]


def test_a_name_that_is_no_plain_text_is_escaped_in_the_message() -> None:
    with pytest.raises(TemplateError) as refused:
        placeholders({"a\n12:00 forged": "{{"})
    assert str(refused.value).startswith(r"'/a\n12:00 forged', character 1: ")
