"""Troubles: what is broken, for how long, and how it is healed again; one after the other."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.errors import StoreError
from agent_service.domain.service_state import Hold
from tests.faults.soak.stage import API_POSTS, LEASE, MORTAL_WORKER_POSTS, SERVICES, WORKER_POSTS, Stage, Stop
from tests.faults.support.service_behaviours import fail, too_many
from tests.support.base_service_behaviours import Behaviour, hang
from tests.support.waiting import until

_HOLD = "soak"
#: As many fail in a row, on each server, as if this many came in a second.
_FAILING_COMMANDS_PER_SECOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One of them; `target` is a post or a service, or empty where there is no choice."""

    kind: str
    target: str
    #: Quiet seconds before it.
    pause: float
    #: Seconds until it is healed.
    lasts: float

    def __str__(self) -> str:
        return f"{self.kind}{f' {self.target}' if self.target else ''} for {self.lasts:.1f} s"


def schedule(
    seed: int, kinds: Collection[str] = (), *, pauses: tuple[float, float] = (2, 4)
) -> Iterator[Trouble]:
    """
    The troubles of this seed without end: all kinds in some order, then all in another order.

    `pauses` are the quiet seconds before each of them (from, to).
    """
    chance = random.Random(f"troubles {seed}")
    while True:
        deck = list(kinds or KINDS)
        chance.shuffle(deck)
        for name in deck:
            kind = KINDS[name]
            yield Trouble(
                kind=name,
                target=chance.choice(kind.targets),
                pause=chance.uniform(*pauses),
                lasts=chance.uniform(*kind.lasts),
            )


async def break_and_heal(stage: Stage, trouble: Trouble) -> None:
    """Break it, wait, heal it; returns when everything is whole again."""
    await KINDS[trouble.kind].act(stage, trouble)


async def _kill_worker(stage: Stage, trouble: Trouble) -> None:
    stage.fleet.kill(stage.posts[trouble.target].process)
    await asyncio.sleep(trouble.lasts)
    await stage.fill(trouble.target)


async def _kill_workers(stage: Stage, trouble: Trouble) -> None:
    stage.fleet.kill(*(stage.posts[name].process for name in MORTAL_WORKER_POSTS))
    await asyncio.sleep(trouble.lasts)
    await asyncio.gather(*(stage.fill(name) for name in MORTAL_WORKER_POSTS))


async def _kill_api(stage: Stage, trouble: Trouble) -> None:
    stage.posts["api"].process.kill()
    await asyncio.sleep(trouble.lasts)
    await stage.fill("api")


async def _replace(stage: Stage, trouble: Trouble) -> None:
    """A deploy: the old one is asked to go, the new one comes at the same time."""
    former = stage.posts[trouble.target].process
    former.terminate()
    await stage.fill(trouble.target)
    code = await former.ended()
    assert code == 0, f"{former.name} ended with exit code {code} after SIGTERM"


async def _stop_process(stage: Stage, trouble: Trouble) -> None:
    process = stage.posts[trouble.target].process
    began = time.time()
    process.pause()
    await asyncio.sleep(trouble.lasts)
    process.resume()
    stage.stops.append(Stop(began=began, ended=time.time()))


async def _kill_primary(stage: Stage, trouble: Trouble) -> None:
    primary = await stage.replica_set.primary()
    primary.kill()
    await stage.replica_set.wait_for_primary(other_than=primary)
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


async def _stop_primary(stage: Stage, trouble: Trouble) -> None:
    """It wakes up when there is another, and still believes that it is the one."""
    primary = await stage.replica_set.primary()
    primary.pause()
    await stage.replica_set.wait_for_primary(other_than=primary)
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


async def _step_down(stage: Stage, trouble: Trouble) -> None:
    await stage.replica_set.step_down(seconds=5)
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


async def _kill_secondary(stage: Stage, trouble: Trouble) -> None:
    (await stage.replica_set.secondaries())[0].kill()
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


async def _stop_secondary(stage: Stage, trouble: Trouble) -> None:
    (await stage.replica_set.secondaries())[0].pause()
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


async def _lose_answers(stage: Stage, trouble: Trouble) -> None:
    """Every write is applied, and its writer hears that nobody knows whether a majority has it."""
    error = {"code": 64, "errmsg": "waiting for replication timed out", "errInfo": {"wtimeout": True}}
    commands = ["update", "insert", "findAndModify", "bulkWrite"]
    await _fail_commands(stage, trouble, {"failCommands": commands, "writeConcernError": error})


async def _cut_connections(stage: Stage, trouble: Trouble) -> None:
    """Commands are not run, and their connections close."""
    commands = ["update", "insert", "findAndModify", "find", "aggregate", "getMore"]
    await _fail_commands(stage, trouble, {"failCommands": commands, "closeConnection": True})


async def _fail_commands(stage: Stage, trouble: Trouble, data: dict[str, object]) -> None:
    times = round(trouble.lasts * _FAILING_COMMANDS_PER_SECOND)
    await stage.replica_set.fail_point("failCommand", {"times": times}, data)
    await asyncio.sleep(trouble.lasts)
    await stage.replica_set.heal()


def _misbehaves(behaviour: Behaviour) -> Callable[[Stage, Trouble], Awaitable[None]]:
    async def act(stage: Stage, trouble: Trouble) -> None:
        stage.answers.broken[trouble.target] = behaviour
        await asyncio.sleep(trouble.lasts)
        del stage.answers.broken[trouble.target]

    return act


async def _refuse_connections(stage: Stage, trouble: Trouble) -> None:
    await stage.service.stop_listening()
    await asyncio.sleep(trouble.lasts)
    await stage.service.listen_again()


async def _pause_service(stage: Stage, trouble: Trouble) -> None:
    services = stage.store.services
    hold = Hold(name=_HOLD, reason="the soak pauses it", since=stage.store.clock.now(), until=None)
    await _insist(lambda: services.hold(trouble.target, hold))
    await asyncio.sleep(trouble.lasts)
    await _insist(lambda: services.lift(trouble.target, _HOLD))


async def _insist(write: Callable[[], Awaitable[object]]) -> None:
    async def attempt() -> bool:
        try:
            await write()
        except StoreError:
            return False
        return True

    is_written: bool = await until(attempt, seconds=60)
    assert is_written


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is done, to whom, and for how many seconds (from, to)."""

    act: Callable[[Stage, Trouble], Awaitable[None]]
    targets: tuple[str, ...] = ("",)
    lasts: tuple[float, float] = (1, 3)


_PAST_A_LEASE = (LEASE + timedelta(seconds=1)).total_seconds()

KINDS: Mapping[str, Kind] = {
    "worker killed": Kind(act=_kill_worker, targets=MORTAL_WORKER_POSTS),
    "workers killed": Kind(act=_kill_workers),
    "worker replaced": Kind(act=_replace, targets=MORTAL_WORKER_POSTS),
    "worker stopped": Kind(act=_stop_process, targets=WORKER_POSTS, lasts=(_PAST_A_LEASE, 2 * _PAST_A_LEASE)),
    "API killed": Kind(act=_kill_api),
    "API replaced": Kind(act=_replace, targets=("api",)),
    "API stopped": Kind(act=_stop_process, targets=API_POSTS, lasts=(3, 6)),
    "primary killed": Kind(act=_kill_primary),
    "primary stopped": Kind(act=_stop_primary),
    "primary stepped down": Kind(act=_step_down),
    "secondary killed": Kind(act=_kill_secondary),
    "secondary stopped": Kind(act=_stop_secondary, lasts=(3, 6)),
    "answers of MongoDB lost": Kind(act=_lose_answers),
    "connections to MongoDB cut": Kind(act=_cut_connections),
    "service unavailable": Kind(act=_misbehaves(fail(503)), targets=SERVICES, lasts=(4, 7)),
    "service limits": Kind(act=_misbehaves(too_many(2)), targets=SERVICES, lasts=(3, 5)),
    "service hangs": Kind(act=_misbehaves(hang()), targets=SERVICES, lasts=(3, 6)),
    "services refuse connections": Kind(act=_refuse_connections, lasts=(3, 6)),
    "service paused": Kind(act=_pause_service, targets=SERVICES, lasts=(3, 6)),
}
