"""The commands, each a thin call."""

import asyncio
import os
import sys
from typing import Annotated, Literal, NoReturn

from cyclopts import App, Parameter
from loguru import logger

from agent_service import main as composition
from agent_service.cli.callback_commands import callbacks
from agent_service.cli.doctor import examine
from agent_service.cli.exit_codes import ExitCode, exit_code_of
from agent_service.cli.health import api_health, worker_health
from agent_service.cli.key_commands import keys
from agent_service.cli.purge_command import purge
from agent_service.cli.request_commands import requests
from agent_service.cli.service_commands import services
from agent_service.cli.submit_command import submit
from agent_service.domain.errors import AgentServiceError
from agent_service.settings import Settings, describe, load_settings, render_env_example
from agent_service.telemetry import fail_point
from agent_service.telemetry.logging import configure_logging

app = App(
    name="agent-service",
    help="Your MongoDB is already the queue for your AI agents.",
    version_flags=[],
    result_action="return_value",
)
config = App(name="config", help="Look at the settings.")
app.command(submit)
app.command(requests)
app.command(services)
app.command(keys)
app.command(callbacks)
app.command(config)
app.command(purge)


def main() -> NoReturn:
    """Run the command of this process and exit; what goes wrong is one message on stderr."""
    configure_logging(level="WARNING", format="console")
    try:
        code = app(sys.argv[1:])
    except AgentServiceError as error:
        print(f"agent-service: {error}", file=sys.stderr)
        code = exit_code_of(error)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    sys.exit(code)


@app.default
@app.command
def dev() -> int:
    """Run everything in this process: API, workers, and whatever is not configured."""
    settings = _start_role()
    return composition.run(composition.dev(settings))


@app.command
def api() -> int:
    """Serve the HTTP API."""
    settings = _start_role()
    return composition.run(composition.api(settings))


@app.command
def worker(service: str, *, queue: Annotated[tuple[str, ...], Parameter(negative="")] = ()) -> int:
    """
    Work for one service.

    Parameters
    ----------
    service
        generation, analysis, communication, one that SERVICES names, or callback, which delivers callbacks.
    queue
        Claim from this queue only; may be repeated. Without it: `default`.
    """
    settings = _start_role()
    return composition.run(composition.worker(settings, service, queue))


@app.command
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


@app.command
def doctor(*, fix: bool = False) -> int:
    """
    Look at everything the service depends on; exit code 1 if something is wrong.

    Parameters
    ----------
    fix
        Create the indexes that are missing.
    """
    return asyncio.run(_doctor(fix=fix))


@config.command
def env() -> int:
    """Print every setting with its default, as text for a file `.env`."""
    sys.stdout.write(render_env_example())
    return ExitCode.DONE


@config.command
def show() -> int:
    """Print every setting with its effective value and where that came from; secrets are masked."""
    settings = load_settings()
    rows = describe(settings)
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:<{width}}  {row.source:<11}  {row.value}".rstrip())
    for warning in settings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.DONE


async def _doctor(*, fix: bool) -> int:
    code = ExitCode.DONE
    async for finding in examine(load_settings(), fix=fix):
        if finding.remedy is None:
            print(f"ok       {finding.text}")
        else:
            print(f"problem  {finding.text}\n         → {finding.remedy}")
            code = ExitCode.FAILED
    return code


def _start_role() -> Settings:
    """The settings, with the log set up as they say."""
    settings = load_settings()
    configure_logging(level=settings.log.level, format=settings.log.format)
    fail_point.arm_from_environment()
    for warning in settings.warnings:
        logger.warning("{}", warning)
    return settings
