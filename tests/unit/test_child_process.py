import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from agent_service.local.child_process import LOG_LIMIT_BYTES, start_child

LIMIT = timedelta(seconds=10)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True); time.sleep(60)"
)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def test_an_environment_is_added_to_that_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "ours")
    program = "import os, time; print(os.environ['OURS'], os.environ['THEIRS'], flush=True); time.sleep(60)"
    child, found = await start_child(
        python(program),
        log=tmp_path / "log",
        ready="ours theirs",
        limit=LIMIT,
        environment={"THEIRS": "theirs"},
    )
    await child.stop(grace=LIMIT)
    assert found is not None


async def test_a_started_child_is_found_by_what_it_says_and_stops_when_asked(tmp_path: Path) -> None:
    program = "import time; print('ready on 4711', flush=True); time.sleep(60)"
    child, found = await start_child(python(program), log=tmp_path / "log", ready=r"on (\d+)", limit=LIMIT)
    assert found is not None
    assert found[1] == "4711"
    codes = [child.exit_code]
    await child.stop(grace=LIMIT)
    await child.stop(grace=LIMIT)
    codes.append(child.exit_code)
    assert codes == [None, -15]


async def test_a_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    child, _ = await start_child(python(STUBBORN), log=tmp_path / "log", ready="ready", limit=LIMIT)
    await child.stop(grace=timedelta(milliseconds=50))
    assert child.exit_code == -9


async def test_a_child_that_ends_early_tells_why_and_not_what_an_earlier_one_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ready, said the one before\n")
    child, found = await start_child(python("raise SystemExit('no')"), log=log, ready="ready", limit=LIMIT)
    assert found is None
    assert child.exit_code == 1
    assert child.output() == "no\n"


async def test_a_child_that_says_nothing_is_not_waited_for_without_end(tmp_path: Path) -> None:
    program = 'echo $$ > "$0"; exec sleep 60'
    with pytest.raises(TimeoutError):
        await start_child(
            ["/bin/sh", "-c", program, str(tmp_path / "pid")],
            log=tmp_path / "log",
            ready="ready",
            limit=timedelta(seconds=2),
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_cancelled_stop_leaves_no_process(tmp_path: Path) -> None:
    child, _ = await start_child(python(STUBBORN), log=tmp_path / "log", ready="ready", limit=LIMIT)
    stopping = asyncio.create_task(child.stop(grace=LIMIT))
    await asyncio.wait({stopping}, timeout=0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert child.exit_code is not None


async def test_a_log_that_grew_too_long_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(LOG_LIMIT_BYTES + 1)
    child, _ = await start_child(python("print('first')"), log=log, ready="never", limit=LIMIT)
    assert child.exit_code == 0
    assert log.read_text() == "first\n"
