"""
An OpenAI-compatible server that others wrote (llm-mock-api), with fixed rules, in a process of its own.

`python -m tests.support.mock_model_process` prints "mock model ready on URL" and serves until SIGTERM.
"""

import asyncio
from typing import Any

from llm_mock_api.mock_server import MockServer, MockServerOptions
from llm_mock_api.types.reply import ErrorReply, ReplyObject, ReplyOptions, ToolCall, Usage

TEXT = "The godwit flies 11 000 km — without “landing” 😀 once."
LONG_TEXT = "on and on " * 2000
TOOL_ARGUMENTS: dict[str, Any] = {"city": "Zürich", "days": [1, 2], "quote": 'a "b"'}
READY = "mock model ready on "


def make_server() -> MockServer:
    """The rules: which question gets which answer."""
    server = MockServer(
        MockServerOptions(host="127.0.0.1", port=0, log_level="none", default_latency=5, default_chunk_size=7)
    )
    tools = [
        ToolCall(id="call_1", name="weather", args=TOOL_ARGUMENTS),
        ToolCall(id="call_2", name="now", args={}),
    ]
    server.when("tell me").reply(ReplyObject(text=TEXT, usage=Usage(input=12, output=34)))
    server.when("go on").reply(ReplyObject(text=LONG_TEXT), ReplyOptions(latency=50, chunk_size=10))
    server.when("use tools").reply(ReplyObject(text="Let me see.", tools=tools))
    server.when("busy once").reply(_error(429, "Rate limit reached", "rate_limit_error")).times(1)
    server.when("busy once").reply("Now I have time.")
    server.when("too long").reply(_error(400, "the context length is exceeded", "invalid_request_error"))
    server.when("wrong key").reply(_error(401, "Incorrect API key provided", "authentication_error"))
    return server


def _error(status: int, message: str, kind: str) -> ReplyObject:
    return ReplyObject(error=ErrorReply(status=status, message=message, type=kind))


async def main() -> None:
    """Serve until the process is told to end."""
    server = make_server()
    await server.start()
    print(READY + server.url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
