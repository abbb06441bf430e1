"""`callbacks list` and `callbacks redeliver`, as they are typed, against MongoDB."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.callback import callback_id
from agent_service.domain.context import ContextError
from agent_service.domain.request import Caller
from agent_service.domain.transitions import failed
from agent_service.store import Store
from tests.support import typed_commands
from tests.support.callbacks import CALLBACK, callbacks_of, requests_with_callbacks
from tests.support.hand_worker import claim, end, work_off
from tests.support.worker_tools import Raw

Typed = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def typed(
    mongodb_uri: str,
    database_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typed:
    """Types a command about callbacks; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)

    def run(line: str) -> tuple[int, str, str]:
        code = typed_commands.typed(f"callbacks {line}", monkeypatch)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


async def fail(store: Store, organization: str, code: str = "gone") -> str:
    """The id of a request of which the callback failed with this code."""
    contexts = ContextManager(store)
    body = {"service": "analysis", "input": {}, "callback": CALLBACK}
    caller = Caller(organization_id=organization)
    request_id = (await requests_with_callbacks(store).submit(body, caller=caller)).request.id
    await work_off(contexts)
    (context,) = await claim(contexts, "callback")
    error = ContextError(code=code, message="no", retryable=False)
    await end(contexts, context, failed(at=contexts.now(), error=error, chunks=0))
    return request_id


async def test_failed_callbacks_are_listed_latest_first_as_lines_of_json(store: Store, typed: Typed) -> None:
    first, second = [await fail(store, organization) for organization in ("acme", "other")]
    code, out, err = await asyncio.to_thread(typed, "list --since 2020-01-01")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err, [line["request_id"] for line in lines]) == (0, "", [second, first])
    failed_at = datetime.fromisoformat(lines[1].pop("failed_at"))
    assert abs(datetime.now(UTC) - failed_at) < timedelta(minutes=10)
    assert lines[1] == {
        "request_id": first,
        "organization_id": "acme",
        "error_code": "gone",
        "attempts": 1,
        "delivery": 1,
    }
    for options, ids in (
        ("--organization acme", [first]),
        ("--limit 1", [second]),
        ("--since 2999-01-01", []),
    ):
        _, out, _ = await asyncio.to_thread(typed, f"list {options}")
        assert [json.loads(line)["request_id"] for line in out.splitlines()] == ids


async def test_on_a_terminal_the_list_is_a_table(
    store: Store, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "agent_service.cli.callback_commands.prints_for_people", lambda *, as_json: not as_json
    )
    assert await asyncio.to_thread(typed, "list") == (0, "", "there is no such callback\n")
    request_id = await fail(store, "acme")
    _, out, _ = await asyncio.to_thread(typed, "list")
    heading, row = [line.split() for line in out.splitlines()]
    assert heading == ["REQUEST", "ORGANIZATION", "ERROR", "ATTEMPTS", "FAILED"]
    assert row[:4] == [request_id, "acme", "gone", "1"]
    _, out, _ = await asyncio.to_thread(typed, "list --json")
    assert json.loads(out)["request_id"] == request_id


async def test_a_dry_run_counts_and_a_run_redelivers_each_once(store: Store, raw: Raw, typed: Typed) -> None:
    ids = [await fail(store, "acme", code) for code in ("gone", "gone", "address_refused")]
    code, out, err = await asyncio.to_thread(typed, "redeliver --dry-run")
    failures = [{"error_code": "address_refused", "callbacks": 1}, {"error_code": "gone", "callbacks": 2}]
    assert (code, json.loads(out)) == (0, {"callbacks": 3, "failures": failures})
    assert err == "nothing was redelivered\n"
    assert await raw.contexts.count_documents({"_id": callback_id(ids[0], 2)}) == 0
    options = "--error-code gone --since 2020-01-01 --organization acme --rate 1000"
    code, out, err = await asyncio.to_thread(typed, f"redeliver {options}")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, lines) == (0, [{"request_id": each, "delivery": 2} for each in (ids[1], ids[0])])
    assert err == "2 redelivered, 0 passed over\n"
    assert {each["status"] for each in await callbacks_of(raw, ids[0])} == {"failed", "pending"}
    again = await asyncio.to_thread(typed, f"redeliver {options}")
    assert again == (0, "", "0 redelivered, 0 passed over\n")
    _, out, _ = await asyncio.to_thread(typed, "list")
    assert json.loads(out)["request_id"] == ids[2]


async def test_what_is_named_and_cannot_be_redelivered_is_told_and_makes_the_exit_code_1(
    store: Store, typed: Typed
) -> None:
    request_id = await fail(store, "acme")
    for line, expected in (
        (f"redeliver none {request_id} --dry-run", 0),
        (f"redeliver none {request_id}", 1),
    ):
        code, _, err = await asyncio.to_thread(typed, line)
        assert code == expected
        assert "request none was passed over: there is no callback of such a request" in err
    code, out, err = await asyncio.to_thread(typed, f"redeliver {request_id}")
    assert (code, out) == (1, "")
    assert f"request {request_id} was passed over: its callback is pending, not failed" in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("list --since yesterday", "--since must be a date and time"),
        ("list --limit 0", "--limit must be 1 or more"),
        ("redeliver --since 2026-13-01", "--since must be a date and time"),
        ("redeliver --limit 0", "--limit must be 1 or more"),
        ("redeliver --rate 0", "rate must be"),
        ("redeliver r --error-code gone", "give the ids of requests, or"),
    ],
)
def test_a_wrong_option_is_the_users_mistake(typed: Typed, line: str, says: str) -> None:
    code, out, err = typed(line)
    assert (code, out) == (2, "")
    assert says in err
