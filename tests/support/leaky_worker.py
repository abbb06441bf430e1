"""A worker process whose handlers hold secrets while they raise."""

import asyncio
import hashlib
import json
import os
from typing import Any, ClassVar

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.telemetry.logging import configure_logging
from agent_service.workers.worker_base import ClientWorker


class LeakyWorker(ClientWorker):
    """Raises beside a secret, in a coroutine."""

    service: ClassVar[str] = "leaky"

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        """Fail."""
        secret = _secrets()["local"]
        raise RuntimeError(f"{_secrets()['message']} of {_digest(secret)}")


class LeakyThread(ClientWorker):
    """Raises beside a secret, in a thread."""

    service: ClassVar[str] = "leaky_thread"

    def handle(self, call: BaseServiceCall, on_delta: Any) -> Any:  # a plain function runs in a thread
        """Fail."""
        secret = _secrets()["thread"]
        raise ValueError(_digest(secret))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _secrets() -> dict[str, str]:
    found: dict[str, str] = json.loads(os.environ["LEAKY_SECRETS"])
    return found


async def main() -> None:
    """Work until killed."""
    settings = load_settings()
    configure_logging(level=settings.log.level, format=settings.log.format)
    assert settings.mongodb.uri is not None
    uri = settings.mongodb.uri.get_secret_value()
    async with Store.connect(uri, database=settings.mongodb.database) as store:
        workers = [
            LeakyWorker(store, base_url="http://127.0.0.1:9"),
            LeakyThread(store, base_url="http://127.0.0.1:9"),
        ]
        for worker in workers:
            await worker.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
