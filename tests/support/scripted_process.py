"""
A scripted base service in a process of its own, for tests that look at what their own process holds.

`python -m tests.support.scripted_process` prints "base service ready on URL" and serves until it is killed.
How a call is answered is said by the name of its step, without the number at its end: see `_BEHAVIOURS`.
"""

import asyncio

from agent_service.testing.base_service import ScriptedBaseService
from agent_service.testing.behaviours import answer, complete, drop_connection, events, fail, hang, stream
from agent_service.testing.calls import Behaviour, RecordedCall, Reply

READY = "base service ready on "

_TEXT = "x" * 10_000
_BEHAVIOURS: dict[str, Behaviour] = {
    "whole": complete({"text": _TEXT}),
    "streamed": stream("a", "b", "c"),
    "refused": fail(400),
    "broken": fail(503),
    "garbled": answer(body="{"),
    "dropped": drop_connection(),
    "cut": stream("a", "b", then=drop_connection()),
    "incomplete": events({"delta": "a"}, {"what": "is this"}),
    "silent": hang(),
}


async def _behave(call: RecordedCall, reply: Reply) -> None:
    await _BEHAVIOURS[call.step.rstrip("0123456789_")](call, reply)


async def main() -> None:
    """Serve until the process is told to end."""
    async with ScriptedBaseService(default=_behave) as service:
        print(READY + service.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
