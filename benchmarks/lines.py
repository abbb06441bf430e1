"""Benchmark `lines`: what claiming costs where what waits belongs to one organization, or to ten thousand."""

from collections.abc import Sequence

from benchmarks.claiming import SERVICE, claim
from benchmarks.claims import put_back
from benchmarks.server_status import read_status
from benchmarks.stage import Stage

SLOTS = 64
#: How many organizations share what waits; with as many as contexts each has one.
ORGANIZATIONS: Sequence[int] = (1, 10, 100, 1_000, 10_000)
WAITING, QUICK_WAITING = 10_000, 2_000
#: Of what waits so much is claimed at most, so that the last figure is not about the end of lines.
_CLAIMED = 0.8


async def measure(stage: Stage) -> None:
    """Claims per second, and what the server looks at for each."""
    waiting = QUICK_WAITING if stage.quick else WAITING
    async with stage.fresh_store() as (store, database):
        await stage.fill(database, SERVICE, waiting, requests=False)
        for _ in range(stage.runs):
            rates = dict[int, float]()
            for organizations in ORGANIZATIONS:
                await _share(stage, database, organizations)
                before = await read_status(stage.client)
                tally = await claim(store, "batch", SLOTS, seconds=60, at_most=int(waiting * _CLAIMED))
                after = await read_status(stage.client)
                await put_back(stage, database)
                rates[organizations] = tally.rate
                about = f"lines: organizations: {organizations:,}"
                keys = (after.keys_examined - before.keys_examined) / tally.claims
                stage.results.add(about, "claims/s", tally.rate)
                stage.results.add(f"{about}, keys examined", "per claim", keys)
            ratio = rates[ORGANIZATIONS[-1]] / rates[1]
            stage.results.add("lines: 10,000 organizations / one", "ratio", ratio)


async def _share(stage: Stage, database: str, organizations: int) -> None:
    """Have what waits belong to so many organizations in turn."""
    number = {"$toString": {"$mod": ["$rank", organizations]}}
    owner: object = {"$concat": ["organization-", number]}
    await stage.client[database]["contexts"].update_many({}, [{"$set": {"organization_id": owner}}])
    # Writing that down is not what claiming costs.
    await stage.client.admin.command("fsync")
