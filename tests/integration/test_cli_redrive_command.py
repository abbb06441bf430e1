"""`requests retry` and `requests redrive`, as they are typed, against what really runs."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_service.api.app import create_app
from agent_service.context_manager import ContextManager
from agent_service.local.servers import serve
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support import typed_commands
from tests.support.hand_worker import work_off

SERVICES = {"generation": 5, "analysis": 5}
TWO_STEPS = {
    "steps": [
        {"name": "draft", "service": "generation", "input": 1},
        {"name": "check", "service": "analysis", "input": 1, "after": ["draft"]},
    ]
}

Typed = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def typed(
    mongodb_uri: str,
    database_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typed:
    """Types a command; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)
    monkeypatch.delenv("AGENT_SERVICE_URL", raising=False)

    def run(line: str) -> tuple[int, str, str]:
        code = typed_commands.typed(line, monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


async def fail_requests(store: Store, count: int, *, failing: str = "check") -> list[str]:
    """So many failed requests; their ids."""
    requests = RequestService(store, max_attempts=SERVICES)
    ids = [(await requests.submit(TWO_STEPS)).request.id for _ in range(count)]
    await work_off(ContextManager(store), failing=(failing,))
    return ids


async def test_a_dry_run_counts_and_a_run_retries_each_once(store: Store, typed: Typed) -> None:
    ids = await fail_requests(store, 3)
    await fail_requests(store, 1, failing="draft")

    def run(options: str) -> tuple[int, str, str]:
        return typed(f"requests redrive --service analysis --rate 1000 {options}")

    code, out, err = await asyncio.to_thread(run, "--dry-run")
    failures = [{"service": "analysis", "error_code": "rejected", "requests": 3}]
    assert (code, json.loads(out)) == (0, {"requests": 3, "failures": failures})
    assert "nothing was retried" in err
    code, out, err = await asyncio.to_thread(run, "--limit 2 --since 2020-01-01 --error-code rejected")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["retry_of"] for line in lines]) == (0, ids[:2])
    assert "2 retried, 0 passed over" in err
    retry = await RequestService(store, max_attempts=SERVICES).get(lines[0]["id"])
    assert retry.request.retry_of == ids[0]
    code, out, _ = await asyncio.to_thread(run, "--until 2999-01-01T00:00:00+02:00 --step check")
    assert [json.loads(line)["retry_of"] for line in out.splitlines()] == ids[2:]
    assert await asyncio.to_thread(run, "") == (0, "", "0 retried, 0 passed over\n")
    assert await asyncio.to_thread(run, "--organization other") == (0, "", "0 retried, 0 passed over\n")


async def test_what_is_passed_over_is_told_and_makes_the_exit_code_1(
    store: Store, typed: Typed, raw: Any
) -> None:
    odd, good = await fail_requests(store, 2)
    await raw.requests.update_one({"_id": odd}, {"$set": {"steps.0.after": ["gone"]}})
    code, out, err = await asyncio.to_thread(typed, "requests redrive --rate 1000")
    assert (code, json.loads(out)["retry_of"]) == (1, good)
    assert f"request {odd} was passed over: " in err
    assert "1 retried, 1 passed over" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--since yesterday", "--since must be a date and time"),
        ("--until 2026-13-01", "--until must be a date and time"),
        ("--limit 0", "--limit must be 1 or more"),
        ("--rate 0", "rate must be"),
        ("--rate fast", "fast"),
    ],
)
def test_a_wrong_option_is_the_users_mistake(typed: Typed, options: str, says: str) -> None:
    code, out, err = typed(f"requests redrive {options}")
    assert (code, out) == (2, "")
    assert says in err


async def test_a_request_is_retried_through_the_api(
    store: Store, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failed,) = await fail_requests(store, 1)
    requests = RequestService(store, max_attempts=SERVICES)
    app = create_app(store, requests, max_body_bytes=1_000)
    async with serve(app) as server:
        monkeypatch.setenv("AGENT_SERVICE_URL", server.base_url)

        async def run(line: str) -> tuple[int, str, str]:
            return await asyncio.to_thread(typed, f"requests {line}")

        code, out, err = await run(f"retry {failed} --idempotency-key k")
        first = json.loads(out)
        assert (code, err, first["retry_of"]) == (0, "", failed)
        assert [step["status"] for step in first["steps"]] == ["completed", "pending"]
        _, out, _ = await run(f"retry {failed} --idempotency-key k")
        assert json.loads(out)["id"] == first["id"]
        _, out, _ = await run(f"retry {failed} --from-step draft")
        assert [step["status"] for step in json.loads(out)["steps"]] == ["pending", "blocked"]
        _, out, _ = await run(f"get {first['id']}")
        assert json.loads(out)["id"] == first["id"]
        codes = [(await run(f"retry {what}"))[0] for what in (first["id"], "none", f"{failed} --from-step x")]
    assert codes == [4, 3, 2]
