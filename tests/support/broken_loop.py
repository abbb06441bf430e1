"""`agent-service`, whose tally writer meets something that nobody foresaw as soon as it runs."""

import asyncio

from agent_service.cli import main
from agent_service.tally_writer import TallyWriter


async def break_at_once(writer: TallyWriter, stopping: asyncio.Event) -> None:
    raise KeyError("nobody foresaw this")


if __name__ == "__main__":
    TallyWriter.run = break_at_once  # type: ignore[method-assign]  # this program is about nothing else
    main()
