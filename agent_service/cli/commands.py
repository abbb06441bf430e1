"""The commands, each a thin call."""

import os
import sys
from typing import Annotated, NoReturn

from cyclopts import App, Parameter
from loguru import logger

from agent_service import main as composition
from agent_service.cli.exit_codes import ExitCode, exit_code_of
from agent_service.cli.purge_command import purge
from agent_service.domain.errors import AgentServiceError, ConfigurationError
from agent_service.processes.parent_process import ParentProcess
from agent_service.processes.worker_processes import WorkerProcesses
from agent_service.settings import Settings, describe, load_settings, render_env_example
from agent_service.store.roster import ProcessPlace
from agent_service.telemetry import fail_point
from agent_service.telemetry.logging import configure_logging

app = App(
    name="agent-service",
    help="Your MongoDB is already the queue for your AI agents.",
    version_flags=[],
    result_action="return_value",
)
config = App(name="config", help="Look at the settings.")
app.command(config)
app.command(purge)
# These load the client of the API, which no role needs; so that `--help` need not load them either, what they
# are for is said here once more.
for _place, _help in {
    "submit_command:submit": "Submit a request to a running API and print what was accepted.",
    "request_commands:requests": "Look at requests, cancel and repeat them.",
    "service_commands:services": "Look at the base services, and hold them.",
    "key_commands:keys": "Make, list and revoke the API keys of organizations.",
    "callback_commands:callbacks": "List callbacks that were not delivered, and deliver them again.",
    "health_command:health": "Say whether a role runs on this machine: exit code 0 or 1.",
    "doctor_command:doctor": "Look at everything the service depends on; exit code 1 if something is wrong.",
}.items():
    app.command(f"agent_service.cli.{_place}", name=_place.partition(":")[2], help=_help)


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
def worker(
    service: str,
    *,
    queue: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    processes: int = 1,
    process: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """
    Work for one service.

    Parameters
    ----------
    service
        generation, analysis, communication, one that SERVICES names, or callback, which delivers callbacks.
    queue
        Claim from this queue only; may be repeated. Without it: `default`.
    processes
        Work in so many processes, for a machine with more cores; each makes as many calls at a time as
        `…_CONCURRENCY` says. One more supervises them: they share its log, stop with it, and are started
        again when they end by themselves.
    process
        Which of them this is; the supervising process says it.
    """
    if processes < 1:
        raise ConfigurationError(f"--processes must be 1 or more, not {processes}")
    if process is not None:
        # The supervising process has told the warnings.
        settings = _start_role(warn=False)
        place = ProcessPlace(number=process, of=processes)
        working = composition.worker(settings, service, queue, place=place)
        return composition.run(working, parent=ParentProcess(grace=settings.shutdown_grace))
    settings = _start_role()
    if processes == 1:
        return composition.run(composition.worker(settings, service, queue))
    queues = [argument for name in queue for argument in ("--queue", name)]
    children = WorkerProcesses(
        ["worker", service, *queues, "--processes", str(processes)],
        number=processes,
        log_format=settings.log.format,
    )
    supervising = composition.worker_processes(settings, service, queue, children)
    return composition.run(supervising, end_at_once=children.kill)


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


def _start_role(*, warn: bool = True) -> Settings:
    """The settings, with the log set up as they say."""
    settings = load_settings()
    configure_logging(level=settings.log.level, format=settings.log.format)
    fail_point.arm_from_environment()
    for warning in settings.warnings if warn else ():
        logger.warning("{}", warning)
    return settings
