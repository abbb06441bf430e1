"""
A worker for a service of one's own, here called `translation`.

    SERVICES=translation TRANSLATION_BASE_URL=https://translation.example.org \
        MONGODB_URI='mongodb://localhost:27017/?replicaSet=rs0' python examples/translation_worker.py

From then on a step may say `"service": "translation"`, wherever SERVICES names it too.
"""

import asyncio
import os
import signal
import sys

from agent_service import ClientWorker, Store


class TranslationWorker(ClientWorker):
    """Has texts translated by the service at TRANSLATION_BASE_URL."""

    service = "translation"


async def main() -> None:
    """Work until SIGTERM or Ctrl-C, then end what was begun."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = os.environ.get("MONGODB_DATABASE", "agent_service")
    uri = os.environ.get("MONGODB_URI") or sys.exit("set MONGODB_URI to the address of a replica set")
    async with Store.connect(uri, database=database) as store:
        worker = TranslationWorker(store)
        await worker.start()
        await stop.wait()
        await worker.stop()


if __name__ == "__main__":
    asyncio.run(main())
