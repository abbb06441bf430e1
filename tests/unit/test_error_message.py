"""The service's own words, made safe."""

import json

import pytest

from agent_service.base_services.error_message import LONGEST_MESSAGE, clean, find_error, message_of


def find_message(content_type: str, body: bytes) -> str:
    return message_of(find_error(content_type, body))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"type": "about:blank", "title": "Bad", "detail": "The text is empty.", "status": 400},
            "The text is empty.",
        ),
        ({"title": "Bad input"}, "Bad input"),
        ({"error": {"message": "no such model", "type": "x"}}, "no such model"),
        ({"error": "plain"}, "plain"),
        ({"message": "m"}, "m"),
        ({"detail": [{"loc": ["body"], "msg": "missing"}]}, '[{"loc": ["body"], "msg": "missing"}]'),
        ("just text", "just text"),
        ({}, ""),
        (None, ""),
        ({"other": 1}, '{"other": 1}'),
    ],
)
def test_the_message_is_found_in_every_usual_shape(value: object, message: str) -> None:
    assert find_message("application/json", json.dumps(value).encode()) == message


def test_a_page_of_html_is_never_repeated() -> None:
    assert find_message("text/html", b"plain") == ""
    assert find_message("text/plain", b"  <html><script>") == ""


def test_plain_text_is_taken_and_bad_bytes_do_no_harm() -> None:
    assert find_message("text/plain", b" try\xff later\n") == "try\ufffd later"
    assert find_message("application/json", b"[" * 100_000).startswith("[[[")


def test_control_characters_become_spaces_and_long_texts_are_cut() -> None:
    assert clean("a\x1b[31m\r\nb\x00\u202ec\u2028d") == "a [31m b c d"
    assert len(clean("x" * 100_000)) == LONGEST_MESSAGE


@pytest.mark.parametrize("depth", [5, 400, 20_000])
@pytest.mark.parametrize("opening", ['{"error":', '{"other":', "["])
def test_deeply_nested_errors_do_no_harm(opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    text = opening * depth + '"deep"' + closing * depth
    assert len(find_message("application/json", text.encode())) <= LONGEST_MESSAGE
