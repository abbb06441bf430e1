"""`keys create|list|revoke`, as they are typed, with MongoDB and with a file."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_service.domain.api_key import Scope, is_genuine, read_key_text
from agent_service.keys.key_file import KeyFile
from agent_service.store import Store
from tests.support import typed_commands

Typed = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command in an empty folder; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONGODB_URI", raising=False)

    def run(line: str) -> tuple[int, str, str]:
        code = typed_commands.typed(line, monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def with_mongodb(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> Typed:
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)
    return typed


async def test_a_key_is_made_listed_and_revoked_in_mongodb(store: Store, with_mongodb: Typed) -> None:
    code, out, err = await asyncio.to_thread(
        with_mongodb, "keys create acme --scope read --scope cancel --name ci --days 30"
    )
    presented = read_key_text(out.strip())
    assert presented is not None
    assert (code, out.count("\n")) == (0, 1)
    assert presented.id in err
    assert out.strip() not in err
    key = await store.keys.find(presented.id)
    assert key is not None
    assert is_genuine(presented, key)
    assert (key.organization_id, key.name) == ("acme", "ci")
    assert key.scopes == {Scope.READ, Scope.CANCEL}
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days == 30

    code, out, _ = await asyncio.to_thread(with_mongodb, "keys list --json")
    [listed] = json.loads(out)
    assert (code, listed["id"], listed["state"], listed["scopes"]) == (
        0,
        key.id,
        "active",
        ["cancel", "read"],
    )
    assert key.digest not in out
    code, out, _ = await asyncio.to_thread(with_mongodb, "keys list --organization other")
    assert (code, out) == (0, "")

    code, _, err = await asyncio.to_thread(with_mongodb, f"keys revoke {key.id}")
    assert (code, "revoked" in err) == (0, True)
    _, out, _ = await asyncio.to_thread(with_mongodb, "keys list --organization acme")
    assert out.startswith(f"{key.id}  acme  revoked  cancel,read  created ")
    code, _, err = await asyncio.to_thread(with_mongodb, "keys revoke 0000000000000000")
    assert (code, "no key '0000000000000000' in MongoDB" in err) == (3, True)


def test_with_a_file_no_mongodb_is_needed(typed: Typed, tmp_path: Path) -> None:
    code, out, _ = typed("keys create acme --file keys/api_keys.jsonl")
    presented = read_key_text(out.strip())
    assert presented is not None
    file = KeyFile(tmp_path / "keys" / "api_keys.jsonl")
    key = file.keys()[presented.id]
    assert (code, is_genuine(presented, key)) == (0, True)
    assert key.scopes == {Scope.SUBMIT, Scope.READ, Scope.CANCEL}
    typed("keys create other --file keys/api_keys.jsonl")
    code, out, _ = typed("keys list --file keys/api_keys.jsonl --organization acme")
    assert (code, out.split()[:3], out.count("\n")) == (0, [key.id, "acme", "active"], 1)
    assert typed(f"keys revoke {key.id} --file keys/api_keys.jsonl")[0] == 0
    assert file.keys()[key.id].revoked_at is not None
    assert typed("keys revoke 0000000000000000 --file keys/api_keys.jsonl")[0] == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("keys create acme", "MONGODB_URI"),
        ("keys create $where --file keys", "cannot be named '$where'"),
        ("keys create acme --days 0 --file keys", "--days takes days above 0"),
        ("keys create acme --scope everything --file keys", "Choose from"),
        (f"keys create acme --name {'n' * 201} --file keys", "--name takes 200"),
        ("keys list --file keys", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_made(
    typed: Typed, tmp_path: Path, line: str, said: str
) -> None:
    code, out, err = typed(line)
    assert (code, out) == (2, "")
    assert said in err
    assert list(tmp_path.iterdir()) == []
