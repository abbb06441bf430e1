"""Commands as somebody types them, run in this process."""

import sys

import pytest

from agent_service.cli import main


def typed(arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["agent-service", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    # As for a process, none counts as 0.
    return int(ended.value.code or 0)
