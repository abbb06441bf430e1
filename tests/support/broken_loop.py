"""`agent-service`, whose tally writer meets something that nobody foresaw as soon as it runs."""

import asyncio
from unittest.mock import patch

from agent_service.cli import main
from agent_service.tally_writer import TallyWriter


async def break_at_once(writer: TallyWriter, stopping: asyncio.Event) -> None:
    """What stands in for the loop."""
    raise KeyError("nobody foresaw this")


if __name__ == "__main__":
    with patch.object(TallyWriter, "run", break_at_once):
        main()
