"""Benchmark `claims`: what claiming costs, by the way it is done, the competition, and the backlog."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from agent_service.store import Store
from benchmarks.backlog import multiply_backlog
from benchmarks.claimer_process import open_crew
from benchmarks.claiming import SERVICE, Tally, claim
from benchmarks.server_status import read_status
from benchmarks.stage import Stage

#: Slots that claim; the ratio of batch and naive is taken at the second to last.
SLOTS: Sequence[int] = (1, 8, 32, 64)
COMPARED_AT = 32
NAMES: Mapping[str, str] = {"single": "naive", "batch": "batch"}
PROCESSES: Sequence[int] = (1, 2, 4, 8)
#: How many contexts wait; the first is what the others are compared with.
BACKLOGS: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)
QUICK_BACKLOGS: Sequence[int] = (1_000, 10_000)
#: For how long one figure claims, in seconds.
SECONDS, QUICK_SECONDS = 0.5, 0.3
#: Claims per second that nothing here reaches: so much has to wait for one figure.
_FASTEST = 50_000
#: Of 1,000 that wait, so many are claimed before they are put back: ten batches.
_ROUND = 640


async def measure(stage: Stage) -> None:
    """By slots, by processes, and by backlog."""
    async with stage.fresh_store() as (store, database):
        await _by_slots(stage, store, database)
        await _by_processes(stage, database)
    await _by_backlog(stage)


async def _by_slots(stage: Stage, store: Store, database: str) -> None:
    await stage.fill(database, SERVICE, int(_FASTEST * _seconds(stage)), requests=False)
    for _ in range(stage.runs):
        for slots in SLOTS:
            naive = await _claim(stage, store, database, "single", slots)
            if slots == 1:
                # A claimer of one slot claims one by one.
                continue
            batch = await _claim(stage, store, database, "batch", slots)
            if slots == COMPARED_AT:
                stage.results.add("claims: batch / naive, 32 claimers", "ratio", batch / naive)


async def _claim(stage: Stage, store: Store, database: str, way: str, slots: int) -> float:
    before = await read_status(stage.client)
    tally = await claim(store, way, slots, seconds=_seconds(stage), at_most=10**9)
    after = await read_status(stage.client)
    await put_back(stage, database)
    about = f"claims: {NAMES[way]}, {slots} {'claimer' if slots == 1 else 'claimers'}"
    conflicts = (after.write_conflicts - before.write_conflicts) / tally.claims
    stage.results.add(about, "claims/s", tally.rate)
    stage.results.add(f"{about}, write conflicts", "per claim", conflicts)
    keys = (after.keys_examined - before.keys_examined) / tally.claims
    stage.results.add(f"{about}, keys examined", "per claim", keys)
    return tally.rate


async def _by_processes(stage: Stage, database: str) -> None:
    slots = SLOTS[-1]
    async with open_crew(stage.uri, database, max(PROCESSES)) as crew:
        for _ in range(stage.runs):
            for number in PROCESSES:
                rate = await crew.claim(number, "batch", slots, seconds=_seconds(stage))
                await put_back(stage, database)
                stage.results.add(f"claims: batch, processes of {slots}: {number}", "claims/s", rate)


async def _by_backlog(stage: Stage) -> None:
    """Each backlog in a database of its own, so that they can take turns."""
    backlogs = QUICK_BACKLOGS if stage.quick else BACKLOGS
    async with AsyncExitStack() as stack:
        places = {each: await stack.enter_async_context(stage.fresh_store()) for each in backlogs}
        for backlog, (_, database) in places.items():
            await stage.fill(database, SERVICE, backlogs[0], requests=False)
            await multiply_backlog(stage.client[database], backlogs[0], backlog)
        # Writing down what was inserted is not what claiming costs.
        await stage.client.admin.command("fsync")
        for _ in range(stage.runs):
            rates = {}
            for backlog, (store, database) in places.items():
                rates[backlog] = (await _claim_in_rounds(stage, store, database)).rate
                stage.results.add(f"claims: batch, {backlog:,} waiting", "claims/s", rates[backlog])
            ratio = rates[backlogs[-1]] / rates[backlogs[0]]
            stage.results.add("claims: batch at the largest backlog / at 1,000", "ratio", ratio)


async def _claim_in_rounds(stage: Stage, store: Store, database: str) -> Tally:
    """Claim, and put back what was claimed before it becomes a smaller backlog; only the claiming counts."""
    total = Tally(claims=0, seconds=0)
    while total.seconds < _seconds(stage):
        total = total.plus(await claim(store, "batch", SLOTS[-1], seconds=60, at_most=_ROUND))
        await put_back(stage, database)
    return total


async def put_back(stage: Stage, database: str) -> None:
    """Let everything that is claimed wait again, as if nobody had claimed it."""
    await stage.client[database]["contexts"].update_many(
        {"service": SERVICE, "status": "running"},
        {"$set": {"status": "pending", "lease": None, "started_at": None, "attempt": 0, "tries": 0}},
    )


def _seconds(stage: Stage) -> float:
    return QUICK_SECONDS if stage.quick else SECONDS
