"""Several processes under one: who is started again, who ends them all, and whose line is whose."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from agent_service.cli.exit_codes import ExitCode
from agent_service.domain.errors import WorkerProcessFailed
from agent_service.processes import worker_process, worker_processes
from agent_service.processes.worker_processes import WRONG_SETTINGS, WorkerProcesses
from tests.support.commands import run_module
from tests.support.log_lines import log_lines
from tests.support.waiting import until

#: Works until its standard input ends, as a worker does.
STEADY = "sys.stdin.read()"
#: Runs so long that it ends only by a signal.
STUBBORN = "time.sleep(600)"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_processes, "_PAUSE", timedelta(milliseconds=1))
    monkeypatch.setattr(worker_process, "_LOOK_EVERY", timedelta(milliseconds=5))


@pytest.fixture
def errors(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[[], bytes]:
    """Everything so far that came out at the standard error of this process."""
    written: list[bytes] = []

    def read() -> bytes:
        written.append(capsysbinary.readouterr().err)
        return b"".join(written)

    return read


Programs = Callable[[str], WorkerProcesses]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Makes two processes that run a piece of Python; in it, `number` is which of them it is."""

    def make(program: str) -> WorkerProcesses:
        begin = "import os, signal, sys, time; number = int(sys.argv[-1])\n"
        monkeypatch.setattr(
            worker_process,
            "_command",
            lambda arguments: [sys.executable, "-I", "-S", "-c", begin + program, *arguments],
        )
        return WorkerProcesses(["worker"], number=2, log_format="console")

    return make


@asynccontextmanager
async def run(processes: WorkerProcesses) -> AsyncIterator[asyncio.Task[None]]:
    """The supervision of these while the block runs; cancelled at its end."""
    running = asyncio.create_task(processes.run())
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, WorkerProcessFailed):
            await running


async def failure_of(processes: WorkerProcesses) -> WorkerProcessFailed:
    with pytest.raises(WorkerProcessFailed) as raised:
        await processes.run()
    return raised.value


async def test_to_cancel_stops_all_in_order_and_waits_for_the_last(
    programs: Programs, tmp_path: Path
) -> None:
    said = [tmp_path / f"{number}" for number in (1, 2)]
    program = f"{STEADY}; time.sleep(0.05 * number); open({str(tmp_path)!r} + f'/{{number}}', 'w')"
    with log_lines("INFO") as lines:
        async with run(programs(program)):
            await until(lambda: sum("runs as pid" in line for line in lines) == 2)
    assert all(file.exists() for file in said)
    assert [line for line in lines if not line.startswith("INFO")] == []


async def test_one_that_ends_by_itself_is_started_again_and_the_others_go_on(
    programs: Programs, tmp_path: Path
) -> None:
    first = str(tmp_path / "first")
    once = f"number == 1 and not os.path.exists({first!r})"
    program = f"if {once}: open({first!r}, 'w'); os.kill(os.getpid(), signal.SIGKILL)\n{STEADY}"
    with log_lines("INFO") as lines:
        async with run(programs(program)):
            await until(lambda: sum("runs as pid" in line for line in lines) == 3)
    assert [line.strip() for line in lines if "ERROR" in line] == [
        "ERROR worker process 1 of 2 was ended by SIGKILL; it is started again in 0.001 s"
    ]
    assert sum("process 2 of 2 runs as pid" in line for line in lines) == 1


async def test_one_that_stopped_in_order_unasked_is_started_again_with_a_warning(
    programs: Programs, tmp_path: Path
) -> None:
    first = str(tmp_path / "first")
    program = f"if number == 1 and not os.path.exists({first!r}): open({first!r}, 'w'); sys.exit()\n{STEADY}"
    with log_lines("INFO") as lines:
        async with run(programs(program)):
            await until(lambda: sum("runs as pid" in line for line in lines) == 3)
    assert any(line.startswith("WARNING worker process 1 of 2 ended with exit code 0") for line in lines)


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL)]
)
async def test_one_that_ends_again_and_again_ends_all_with_its_exit_code(
    programs: Programs, end: str, code: int
) -> None:
    with log_lines("INFO") as lines:
        failure = await failure_of(programs(f"if number == 1: {end}\n{STEADY}"))
    assert failure.exit_code == code
    assert "4 times within a minute, so all of them stop" in str(failure)
    assert sum("process 1 of 2 runs as pid" in line for line in lines) == 4
    assert sum("process 2 of 2 runs as pid" in line for line in lines) == 1


async def test_wrong_settings_end_all_at_once(programs: Programs) -> None:
    assert WRONG_SETTINGS == ExitCode.USAGE
    with log_lines("INFO") as lines:
        failure = await failure_of(programs(f"if number == 1: sys.exit({WRONG_SETTINGS})\n{STEADY}"))
    assert failure.exit_code == ExitCode.USAGE
    assert sum("runs as pid" in line for line in lines) == 2


async def test_one_that_fails_while_it_stops_is_told_of_in_the_exit_code(programs: Programs) -> None:
    processes = programs(f"{STEADY}; sys.exit(3 if number == 2 else 0)")
    with log_lines("INFO") as lines:
        running = asyncio.create_task(processes.run())
        await until(lambda: sum("runs as pid" in line for line in lines) == 2)
        running.cancel()
        with pytest.raises(WorkerProcessFailed, match="2 of 2 ended with exit code 3 while it stopped") as it:
            await running
    assert it.value.exit_code == 3


async def test_one_that_was_told_to_stop_while_it_loaded_has_stopped_in_order(programs: Programs) -> None:
    processes = programs("os.kill(os.getpid(), signal.SIGTERM) if sys.stdin.read() == '' else None")
    with log_lines("INFO") as lines:
        running = asyncio.create_task(processes.run())
        await until(lambda: sum("runs as pid" in line for line in lines) == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_to_kill_ends_those_too_that_do_not_listen(programs: Programs) -> None:
    processes = programs(STUBBORN)
    with log_lines("INFO") as lines:
        async with run(processes):
            await until(lambda: sum("runs as pid" in line for line in lines) == 2)
            pids = [int(line.split()[-1]) for line in lines]
            processes.kill()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_process_that_cannot_be_started_counts_as_one_that_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "_command", lambda _: ["/there/is/no/such/program"])
    with log_lines("INFO") as lines:
        failure = await failure_of(WorkerProcesses([], number=1, log_format="console"))
    assert failure.exit_code == 1
    assert "ERROR worker process 1 of 1 cannot be started: No such file or directory\n" in lines


async def test_lines_of_several_processes_stay_whole_and_tell_whose_they_are(
    programs: Programs, errors: Callable[[], bytes]
) -> None:
    write = "sys.stderr.write(f'{number} ' * 9_000 + chr(10)); sys.stderr.flush()"
    processes = programs(f"for _ in range(50): {write}\n{STEADY}")
    async with run(processes):
        await until(lambda: errors().count(b"\n") == 100)
    lines = errors().decode().splitlines()
    assert sorted(lines) == [f"[{number}] " + f"{number} " * 9_000 for number in (1, 2) for _ in range(50)]


async def test_what_a_process_wrote_last_is_not_lost_with_it(
    programs: Programs, errors: Callable[[], bytes]
) -> None:
    program = "sys.stderr.write('no end of line'); sys.stderr.flush(); sys.exit(2)"
    await failure_of(programs(f"if number == 1: {program}\n{STEADY}"))
    assert errors() == b"[1] no end of line\n"


@pytest.mark.parametrize(
    ("arguments", "values", "named"),
    [
        (("--processes", "0"), {}, "--processes must be 1 or more, not 0"),
        (("--processes", "3"), {}, "GENERATION_BASE_URL is not set"),
        (("--processes", "3"), {"GENERATION_BASE_URL": "http://127.0.0.1:9"}, "MONGODB_URI is not set"),
    ],
)
def test_what_is_wrong_with_the_settings_is_told_once(
    arguments: tuple[str, ...], values: dict[str, str], named: str, tmp_path: Path
) -> None:
    result = run_module("agent_service", ["worker", "generation", *arguments], folder=tmp_path, values=values)
    assert result.returncode == ExitCode.USAGE
    [line] = result.stderr.splitlines()
    assert named in line
