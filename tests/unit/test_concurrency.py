"""The supervisor: no loop ends unnoticed; an essential one is started again, any other ends the process."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from agent_service import concurrency
from agent_service.concurrency import Supervisor, run_together
from agent_service.domain.errors import LoopFailed, StoreUnavailable


def never() -> bool:
    return False


def always() -> bool:
    return True


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop is started again at once."""
    for name in ("_PAUSE", "_PAUSE_WHILE_FAILED"):
        monkeypatch.setattr(concurrency, name, getattr(concurrency, name) * 0)


def fails(times: int, then: Callable[[], Awaitable[None]]) -> tuple[Callable[[], Awaitable[None]], list[int]]:
    """A loop that raises so many times, then does something else; and how often it was started."""
    runs: list[int] = []

    async def run() -> None:
        runs.append(len(runs))
        if len(runs) <= times:
            raise KeyError("odd")
        await then()

    return run, runs


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_a_loop_that_was_asked_to_end_ends_and_nothing_is_said(warnings: list[str]) -> None:
    supervisor, stopping = Supervisor(), asyncio.Event()

    async def run() -> None:
        await stopping.wait()

    task = supervisor.start("scheduler", run, ends=stopping.is_set)
    stopping.set()
    await task
    assert (supervisor.failure, supervisor.trouble, warnings) == (None, "", [])


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "returns"])
async def test_a_loop_that_ends_unasked_is_told_with_its_traceback_and_fails_the_process(
    warnings: list[str], *, raises: bool
) -> None:
    counted: Counter[str] = Counter()
    told: list[LoopFailed] = []
    supervisor = Supervisor(count=lambda name: counted.update([name]))
    supervisor.on_failed(told.append)

    async def run() -> None:
        if raises:
            raise KeyError("odd")

    await supervisor.start("claimer", run, ends=never, of="generation")
    with pytest.raises(LoopFailed, match="generation claimer failed"):
        await supervisor.wait()
    assert told == [supervisor.failure]
    assert counted == {"claimer": 1}
    assert "generation claimer" in supervisor.trouble
    assert ("Traceback" in warnings[0], "KeyError" in warnings[0]) == (raises, raises)


async def test_what_a_failure_says_shows_no_value_of_what_was_raised(warnings: list[str]) -> None:
    supervisor = Supervisor()
    run, _ = fails(1, for_ever)
    await supervisor.start("gate", run, ends=never)
    assert "odd" not in str(supervisor.failure)
    assert "odd" not in supervisor.trouble


async def test_an_essential_loop_is_started_again_three_times_a_minute() -> None:
    supervisor = Supervisor()
    again = asyncio.Event()

    async def go_on() -> None:
        again.set()
        await for_ever()

    run, runs = fails(3, go_on)
    task = supervisor.start("lease keeper", run, ends=never, essential=True)
    await again.wait()
    assert len(runs) == 4
    assert supervisor.failure is None
    assert "lease keeper" in supervisor.trouble
    task.cancel()


async def test_an_essential_loop_that_fails_a_fourth_time_fails_the_process_and_is_still_started_again(
    warnings: list[str],
) -> None:
    supervisor, ending, again = Supervisor(), asyncio.Event(), asyncio.Event()

    async def go_on() -> None:
        again.set()
        await ending.wait()

    run, runs = fails(6, go_on)
    task = supervisor.start("outcome writer", run, ends=ending.is_set, essential=True)
    with pytest.raises(LoopFailed, match="outcome writer failed 4 times within a minute"):
        await supervisor.wait()
    # What it has to write while the process stops is not given up.
    await again.wait()
    ending.set()
    await task
    assert len(runs) == 7


async def test_failures_that_are_far_apart_do_not_add_up() -> None:
    clock, again = Clock(), asyncio.Event()
    supervisor = Supervisor(monotonic=clock)

    async def fail_slowly() -> None:
        clock.now += 21
        if clock.now > 1_200:
            again.set()
            await for_ever()
        raise KeyError("odd")

    task = supervisor.start("settler", fail_slowly, ends=never, essential=True)
    await again.wait()
    assert supervisor.failure is None
    task.cancel()


async def test_a_process_is_healthy_again_a_minute_after_a_loop_was_started_again() -> None:
    clock, again = Clock(), asyncio.Event()
    supervisor = Supervisor(monotonic=clock)

    async def go_on() -> None:
        again.set()
        await for_ever()

    run, _ = fails(1, go_on)
    task = supervisor.start("settler", run, ends=never, essential=True)
    await again.wait()
    clock.now += 59
    assert supervisor.trouble
    clock.now += 1
    assert not supervisor.trouble
    task.cancel()


async def test_a_cancelled_loop_ends_and_is_no_failure(warnings: list[str]) -> None:
    supervisor = Supervisor()
    task = supervisor.start("a loop", for_ever, ends=never)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (supervisor.failure, warnings) == (None, [])


async def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    supervisor = Supervisor()

    async def run() -> None:
        raise asyncio.CancelledError

    await supervisor.start("a loop", run, ends=always)
    assert supervisor.failure is not None


async def test_a_background_task_has_no_limit_of_who_starts_it() -> None:
    limit = contextvars.ContextVar[str]("limit", default="none")
    seen: list[str] = []

    async def run() -> None:
        seen.append(limit.get())

    token = limit.set("of the caller")
    await Supervisor().background("measuring the clock", run())
    limit.reset(token)
    assert seen == ["none"]


async def test_whoever_no_longer_wants_to_be_told_is_not() -> None:
    supervisor = Supervisor()
    told: list[LoopFailed] = []
    supervisor.on_failed(told.append)()
    run, _ = fails(1, for_ever)
    await supervisor.start("gate", run, ends=never)
    assert told == []


@pytest.mark.parametrize(
    ("error", "counted"), [(KeyError("odd"), {"background": 1}), (StoreUnavailable("away"), {})], ids=str
)
async def test_a_background_task_that_fails_is_told_and_the_process_goes_on(
    warnings: list[str], error: Exception, counted: dict[str, int]
) -> None:
    counts: Counter[str] = Counter()
    supervisor = Supervisor(count=lambda name: counts.update([name]))

    async def call() -> None:
        raise error

    task = supervisor.background("generation probe", call())
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert counts == counted
    assert len([line for line in warnings if "Traceback" in line]) == len(counted)
    assert (supervisor.failure, supervisor.trouble) == (None, "")


async def test_of_what_runs_together_the_end_of_one_that_nobody_asked_for_ends_the_others() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def fails() -> None:
        raise KeyError("nobody foresaw this")

    for odd, error in ((cancelled, asyncio.CancelledError), (fails, KeyError)):
        with pytest.raises(error):
            async with asyncio.timeout(20):
                await run_together(for_ever(), odd(), for_ever())


async def test_what_runs_together_ends_when_all_have_ended() -> None:
    ended: list[int] = []

    async def end(number: int) -> None:
        await asyncio.sleep(0)
        ended.append(number)

    await run_together(end(1), end(2))
    assert sorted(ended) == [1, 2]
