"""A process that delivers callbacks to receivers of a test, until it is killed: `URI DATABASE`."""

import asyncio
import sys

from agent_service.store import Store
from tests.support.callbacks import a_callback_worker


async def main(uri: str, database: str) -> None:
    """Deliver until killed."""
    async with Store.connect(uri, database=database) as store:
        await a_callback_worker(store).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
