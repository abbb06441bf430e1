"""
The bare client: the HTTP client of the workers with no queue at all, in a process of its own.

`python -m benchmarks.bare_client URL --calls 5000 --concurrency 64` makes the same calls as a worker does, as
many at a time, and prints its pace.
"""

import argparse
import asyncio
import uuid
from datetime import timedelta

import orjson

from agent_service.base_services.call import BaseServiceCall
from agent_service.base_services.execute_protocol import ExecuteProtocol
from agent_service.base_services.http_client import HttpClient, open_client
from agent_service.base_services.json_body import dump_json
from agent_service.base_services.request_headers import build_headers
from agent_service.main import new_event_loop
from benchmarks.backlog import INPUT, STEP
from benchmarks.pace import Pace

_TIMEOUT = timedelta(seconds=120)
_TIMEOUTS = (10.0, None, None, None)


class BareClient:
    """One call is one HTTP request with the body and the headers of a worker's, its answer parsed."""

    def __init__(self, base_url: str, concurrency: int) -> None:
        self._url = f"{base_url}/execute"
        self._client: HttpClient = open_client(concurrency)
        self._protocol = ExecuteProtocol()

    async def call(self, request_id: str) -> object:
        """The output of the base service. Raises RuntimeError for anything but a good answer."""
        call = BaseServiceCall(
            context_id=f"{request_id}.{STEP}",
            request_id=request_id,
            step=STEP,
            attempt=1,
            input=INPUT,
            metadata={},
            idempotency_key=f"{request_id}.{STEP}",
            organization_id="default",
            timeout=_TIMEOUT,
        )
        async with self._client.stream(
            "POST",
            self._url,
            content=dump_json(self._protocol.request_body(call)),
            headers=build_headers(call, None),
            timeout=_TIMEOUTS,
            follow_redirects=False,
        ) as response:
            if response.status_code != 200:
                raise RuntimeError(f"the base service answered {response.status_code}")
            pieces = [piece async for piece in response.aiter_bytes()]
        answer: object = orjson.loads(b"".join(pieces))["output"]
        return answer

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


async def call_repeatedly(base_url: str, calls: int, concurrency: int) -> None:
    """Make so many calls, so many at a time, and tell the pace."""
    client = BareClient(base_url, concurrency)
    left = iter(range(calls))
    pace = Pace()

    async def work() -> None:
        for _ in left:
            await client.call(str(uuid.uuid4()))
            pace.tick()

    try:
        await asyncio.gather(*(work() for _ in range(concurrency)))
    finally:
        await client.close()
    pace.tell()


def main() -> None:
    """Call as the arguments say."""
    parser = argparse.ArgumentParser(description="the HTTP client of the workers with no queue")
    parser.add_argument("url")
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(call_repeatedly(arguments.url, arguments.calls, arguments.concurrency))


if __name__ == "__main__":
    main()
