"""The file of API keys: written by us or by hand, read again when it changes, and never quoted."""

import json
import os
from pathlib import Path

import pytest

from agent_service.domain.api_key import Scope, make_key
from agent_service.domain.errors import ConfigurationError
from agent_service.keys.key_file import KeyFile
from tests.support.contexts import NOW, SECOND

DIGEST = "5ec2e7" + "0" * 58


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "api_keys.jsonl")


def line(**changes: object) -> str:
    fields = {
        "id": "0123456789abcdef",
        "digest": DIGEST,
        "organization_id": "acme",
        "scopes": ["read"],
        "created_at": "2026-01-31T12:00:00Z",
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None})


def write(file: KeyFile, text: str) -> None:
    file.path.parent.mkdir(exist_ok=True)
    file.path.write_text(text, encoding="utf-8")


def test_what_was_added_is_read_again_as_it_was(file: KeyFile) -> None:
    first, _ = make_key("acme", scopes=[Scope.READ], name="Zoë", expires_at=NOW + SECOND, now=NOW)
    second, _ = make_key("acme", now=NOW)
    file.add(first)
    file.add(second)
    assert file.keys() == {first.id: first, second.id: second}
    assert KeyFile(file.path).keys() == file.keys()


def test_the_api_may_read_the_file_as_another_user(file: KeyFile) -> None:
    file.add(make_key("acme", now=NOW)[0])
    assert file.path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(file.path.parent) == [file.path.name]


def test_a_revoked_key_stays_with_its_time_and_comments_stay_too(file: KeyFile) -> None:
    write(file, f"# ours\n\n{line()}\n")
    other, _ = make_key("other", now=NOW)
    file.add(other)
    revoked = file.revoke("0123456789abcdef", NOW)
    assert revoked is not None
    assert revoked.revoked_at == NOW
    assert file.revoke("0123456789abcdef", NOW + SECOND) == revoked
    assert file.keys() == {revoked.id: revoked, other.id: other}
    assert file.path.read_text(encoding="utf-8").startswith("# ours\n\n{")
    assert file.revoke("f" * 16, NOW) is None


def test_a_file_that_changes_is_read_again(file: KeyFile) -> None:
    write(file, line())
    assert list(file.keys()) == ["0123456789abcdef"]
    write(file, line() + "\n" + line(id="f" * 16))
    assert list(file.keys()) == ["0123456789abcdef", "f" * 16]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "one JSON object"),
        ("[" * 100_000, "one JSON object"),
        ('"text"', "one JSON object"),
        (line(digest=None), "digest missing"),
        (line(secret="s3cret"), "it may have"),
        (line(id="short"), "id must be 16 hexadecimal digits"),
        (line(digest="s3cret"), "digest must be a SHA-256"),
        (line(organization_id="a b"), "organization_id must be"),
        (line(name=7), "name must be"),
        (line(scopes=["s3cret"]), "scopes must be a list of any of submit, read, cancel, admin"),
        (line(scopes="read"), "scopes must be"),
        (line(created_at="s3cret"), "created_at must be a time"),
        (line(expires_at="s3cret"), "expires_at must be a time"),
        (line(revoked_at=5), "revoked_at must be a time"),
        (line(), "its id stands in an earlier line"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_of_it_is_shown(file: KeyFile, wrong: str, said: str) -> None:
    write(file, f"{line()}\n{wrong}\n")
    with pytest.raises(ConfigurationError) as caught:
        file.keys()
    text = str(caught.value)
    assert f"{file.path} line 2 is no API key: " in text
    assert said in text
    assert "s3cret" not in text
    assert DIGEST not in text


def test_a_wrong_file_is_not_added_to_and_counts_again_once_it_is_mended(file: KeyFile) -> None:
    write(file, "{")
    with pytest.raises(ConfigurationError, match="line 1"):
        file.add(make_key("acme", now=NOW)[0])
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="line 1"):
            file.keys()
    write(file, line())
    assert list(file.keys()) == ["0123456789abcdef"]


def test_a_file_that_cannot_be_read_is_named_with_what_makes_it(file: KeyFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"API_KEYS_FILE.*keys create"):
        file.keys()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no text in UTF-8"):
        KeyFile(tmp_path / "binary").keys()
    with pytest.raises(ConfigurationError, match="cannot be"):
        KeyFile(tmp_path).add(make_key("acme", now=NOW)[0])
