"""The command that says whether a role runs on this machine."""

import asyncio
import sys
from typing import Literal

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.health import api_health, worker_health
from agent_service.settings import load_settings


def health(*, role: Literal["api", "worker"] | None = None) -> int:
    """
    Say whether a role runs on this machine: exit code 0 or 1.

    Parameters
    ----------
    role
        Look at this role only; without it, either will do.
    """
    settings = load_settings()
    problems = []
    for name, look in (("api", api_health), ("worker", worker_health)):
        if role in (None, name):
            health = asyncio.run(look(settings))
            if health.problem is None:
                print(f"{name}: ok ({health.remark})" if health.remark else f"{name}: ok")
                return ExitCode.DONE
            problems.append(health.problem)
    print("\n".join(problems), file=sys.stderr)
    return ExitCode.FAILED
