"""DeliveryLedger: what was delivered under which idempotency key, in a folder, so that it happens once."""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from agent_service.domain.json_value import JsonObject, JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came of a delivery; `replayed` when it had happened before."""

    output: JsonObject
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    fingerprint: str
    output: JsonObject


class KeyReused(Exception):
    """The key was used before for another input; it never leaves the service."""


class DeliveryLedger:
    """
    One small file per key. Calls of one key at the same time share one delivery.

    A failed delivery leaves no record: the next call tries again. A process that dies after delivering and
    before the record delivers again, so channels derive their message's identity from `digest_of(key)`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[str, asyncio.Task[Delivery]]] = {}

    async def deliver_once(
        self, key: str, content: JsonValue, deliver: Callable[[], Awaitable[JsonObject]]
    ) -> Delivery:
        """
        Deliver unless that was done under this key, and say what came of it.

        Raises KeyReused when the key stands for other `content`, and whatever `deliver` raises. The delivery
        goes on when the caller is cancelled.
        """
        digest, fingerprint = digest_of(key), _fingerprint(content)
        running = self._running.get(digest)
        if running is None:
            task = asyncio.create_task(self._find_or_deliver(digest, fingerprint, deliver))
            self._running[digest] = (fingerprint, task)
            task.add_done_callback(lambda ended: self._forget(digest, ended))
            return await asyncio.shield(task)
        known, task = running
        if known != fingerprint:
            raise KeyReused
        return replace(await asyncio.shield(task), replayed=True)

    def _forget(self, digest: str, ended: asyncio.Task[Delivery]) -> None:
        self._running.pop(digest, None)
        if not ended.cancelled():
            # Looked at here, because every caller may have gone before it ended.
            ended.exception()

    async def finish(self) -> None:
        """Wait until what is being delivered is recorded."""
        await asyncio.gather(*(task for _, task in self._running.values()), return_exceptions=True)

    async def _find_or_deliver(
        self, digest: str, fingerprint: str, deliver: Callable[[], Awaitable[JsonObject]]
    ) -> Delivery:
        path = self._folder / f"{digest}.json"
        record = await asyncio.to_thread(_read, path)
        if record is not None:
            if record.fingerprint != fingerprint:
                raise KeyReused
            return Delivery(output=record.output, replayed=True)
        output = await deliver()
        await asyncio.to_thread(_write, path, _Record(fingerprint=fingerprint, output=output))
        return Delivery(output=output, replayed=False)


def digest_of(key: str) -> str:
    """A name for the key that is safe in file names and headers, and the same in every process."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _fingerprint(content: JsonValue) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> _Record | None:
    try:
        stored = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return _Record(fingerprint=str(stored["fingerprint"]), output=cast("JsonObject", stored["output"]))


def _write(path: Path, record: _Record) -> None:
    """Whole or not at all, and on the disk before it is relied on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w") as file:
        json.dump({"fingerprint": record.fingerprint, "output": record.output}, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
