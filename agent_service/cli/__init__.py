"""The command line: `agent-service …`; data on stdout, talk on stderr."""

from agent_service.cli.commands import app, main

__all__ = ["app", "main"]
