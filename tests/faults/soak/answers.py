"""
Answers: what the base service of the soak does, from what stands in the call and from what is broken now.

`milliseconds` it takes; `pieces` it streams; the first `fails` attempts fail with `status` (0: the connection
breaks); `rejected` is refused for good, `rejected_once` the first time that its idempotency key is seen;
`too_many` is a 429 with so many seconds for the first attempt.
"""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from tests.faults.support.recording_service import RecordingService
from tests.faults.support.service_behaviours import after, fail, reset, too_many
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer, events


class Answers:
    """Programs a recording service; `broken` says what is done instead, by service."""

    def __init__(self, service: RecordingService) -> None:
        self._service = service
        self._refused: set[str] = set()
        self.broken: dict[str, Behaviour] = {}
        #: How often a context's work was done, as far as the service can tell: its output was sent.
        self._done: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        """Behave so from now on; to be repeated after the service has forgotten its rules."""
        self._refused.clear()
        self._done.clear()
        self._service.program(self._behave)

    @property
    def done_again(self) -> int:
        """How often work was done that had been done before."""
        return self._done.total() - len(self._done)

    async def _behave(self, call: RecordedCall, reply: Reply) -> None:
        service = call.path.strip("/").split("/")[0]
        broken = self.broken.get(service)
        behaviour = broken if broken is not None else self._wanted(call)
        await behaviour(call, reply)

    def _wanted(self, call: RecordedCall) -> Behaviour:
        sent = call.json()
        asked: dict[str, Any] = sent["input"]
        takes = timedelta(milliseconds=asked["milliseconds"])
        if asked.get("rejected") or self._refuses_once(asked, call.headers["idempotency-key"]):
            return after(takes, fail(422, message="this is not what it can do"))
        if sent["attempt"] == 1 and "too_many" in asked:
            return too_many(asked["too_many"])
        if sent["attempt"] <= asked.get("fails", 0):
            return after(takes, fail(asked["status"]) if asked["status"] else reset())
        output = {"step": sent["step"], "context": sent["context_id"], "before": asked.get("before", [])}
        if "pieces" not in asked:
            return self._counted(sent["context_id"], after(takes, answer({"output": output})))
        texts = [f"{asked['text']} {number} " for number in range(asked["pieces"])]

        async def pause(_number: int) -> None:
            await asyncio.sleep(takes.total_seconds() / len(texts))

        streamed = events(*({"delta": text} for text in texts), {"output": output}, before_each=pause)
        return self._counted(sent["context_id"], streamed)

    def _counted(self, context_id: str, then: Behaviour) -> Behaviour:
        async def behave(call: RecordedCall, reply: Reply) -> None:
            await then(call, reply)
            self._done[context_id] += 1

        return behave

    def _refuses_once(self, asked: dict[str, Any], key: str) -> bool:
        if not asked.get("rejected_once") or key in self._refused:
            return False
        self._refused.add(key)
        return True
