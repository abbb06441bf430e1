"""A process that lost one of its loops says so, stops in order, and ends with exit code 1."""

from pathlib import Path

import pytest

from agent_service.local.free_port import free_port
from agent_service.store import Store
from tests.support.commands import run_module


@pytest.mark.parametrize("role", [("api",), ("worker", "generation")], ids="-".join)
def test_a_role_that_lost_a_loop_stops_and_exits_with_one(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path, role: tuple[str, ...]
) -> None:
    values = {
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DATABASE": database_name,
        "GENERATION_BASE_URL": "http://127.0.0.1:9",
        "API_HOST": "127.0.0.1",
        "API_PORT": str(free_port()),
        "LOG_FORMAT": "console",
    }
    ended = run_module("tests.support.broken_loop", role, folder=tmp_path, values=values)
    assert ended.returncode == 1
    assert "nobody foresaw this" in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last == "agent-service: tally writer failed (KeyError), so this process stops working"
    if role[0] == "worker":
        assert "generation worker stopped" in ended.stderr
