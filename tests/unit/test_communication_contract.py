import pytest
from pydantic import ValidationError

from agent_service.local.communication_contract import DEFAULT_SUBJECT, MAX_RECIPIENTS, EmailInput


def read(**fields: object) -> EmailInput:
    return EmailInput.model_validate({"channel": "email", "to": "a@example.org", "body": "b"} | fields)


def test_one_recipient_or_several_are_accepted_and_each_is_kept_once() -> None:
    assert read().to == ("a@example.org",)
    assert read(to=["a@example.org", "b@example.org", "a@example.org"]).to == (
        "a@example.org",
        "b@example.org",
    )
    assert read().subject == DEFAULT_SUBJECT


@pytest.mark.parametrize(
    "to",
    [
        [],
        "",
        "nobody",
        ["a@example.org", 5],
        5,
        None,
        [f"a{n}@example.org" for n in range(MAX_RECIPIENTS + 1)],
    ],
)
def test_recipients_that_are_none_are_reported_at_their_field(to: object) -> None:
    with pytest.raises(ValidationError) as found:
        read(to=to)
    assert [error["loc"] for error in found.value.errors()] == [("to",)]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028"])
def test_a_subject_of_several_lines_is_refused(end: str) -> None:
    with pytest.raises(ValidationError, match="must be one line"):
        read(subject=f"hello{end}Bcc: eve@example.org")
