"""The command that looks at everything that the service depends on."""

import asyncio

from agent_service.cli.doctor import examine
from agent_service.cli.exit_codes import ExitCode
from agent_service.settings import load_settings


def doctor(*, fix: bool = False, drop_old_indexes: bool = False) -> int:
    """
    Look at everything the service depends on; exit code 1 if something is wrong.

    Parameters
    ----------
    fix
        Create the indexes that are missing.
    drop_old_indexes
        Drop the indexes that only older versions need: when no process of one is running any more, worker or
        API.
    """
    return asyncio.run(_doctor(fix=fix, drop_old_indexes=drop_old_indexes))


async def _doctor(*, fix: bool, drop_old_indexes: bool) -> int:
    code = ExitCode.DONE
    async for finding in examine(load_settings(), fix=fix, drop_old_indexes=drop_old_indexes):
        if finding.remedy is None:
            print(f"ok       {finding.text}")
        else:
            print(f"problem  {finding.text}\n         → {finding.remedy}")
            code = ExitCode.FAILED
    return code
