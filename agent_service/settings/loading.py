"""load_settings: from the environment, `.env` and secret files to Settings; every mistake in one error."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_service.domain.errors import ConfigurationError
from agent_service.settings.models import Settings
from agent_service.settings.reading import read_variables
from agent_service.settings.service import ServiceSettings
from agent_service.settings.service_names import STANDARD_SERVICES, find_name_problem
from agent_service.settings.table import Entry, list_entries, list_service_entries
from agent_service.settings.unknown_names import find_warnings

ENV_FILE = Path(".env")
SECRETS_FOLDER = Path("/run/secrets")


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = ENV_FILE,
    secrets_folder: Path | None = SECRETS_FOLDER,
) -> Settings:
    """
    The settings from `environ` (os.environ if None), then `env_file`, then `secrets_folder`, then defaults.

    Raises ConfigurationError that names every variable that is wrong, and never shows a secret.
    """
    environ = os.environ if environ is None else environ
    # Which variables there are depends on SERVICES.
    first = [entry for entry in list_entries(()) if entry.path == ("further_services",)]
    names = read_variables(first, environ, env_file, secrets_folder).values.get("SERVICES", ())
    further, problems = _find_services(names)
    services = (*STANDARD_SERVICES, *further)
    entries = list_entries(services)
    reading = read_variables(entries, environ, env_file, secrets_folder)
    _refuse([*problems, *reading.problems])
    known = [entry.variable.name for entry in entries]
    return Settings.model_validate(
        {
            **_nest(entries, reading.values),
            "further_services": further,
            "warnings": find_warnings(environ, reading.names, known, services),
            "origins": reading.origins,
        }
    )


def service_settings(
    name: str,
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = ENV_FILE,
    secrets_folder: Path | None = SECRETS_FOLDER,
) -> ServiceSettings:
    """
    The settings of the service `name` alone, whether SERVICES names it or not.

    Raises ConfigurationError like `load_settings`, but only for the variables of this service.
    """
    problem = _find_service_problem(name)
    _refuse([problem] if problem else [])
    entries = list_service_entries(name)
    reading = read_variables(entries, os.environ if environ is None else environ, env_file, secrets_folder)
    _refuse(reading.problems)
    return ServiceSettings.model_validate(_nest(entries, reading.values)["services"][name])


def _find_services(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The further services among `names` that can be, and what is wrong with the others."""
    usable: list[str] = []
    problems: list[str] = []
    # The shorter first: only the variables of a shorter name can begin with a longer one.
    for name in sorted(names, key=len):
        problem = _find_service_problem(name, (*STANDARD_SERVICES, *usable))
        if problem is None:
            usable.append(name)
        else:
            problems.append(f"SERVICES is wrong: {problem}")
    return tuple(name for name in names if name in usable), problems


def _find_service_problem(name: str, services: Sequence[str] = STANDARD_SERVICES) -> str | None:
    if name in services:
        return None
    return find_name_problem(name, [entry.variable.name for entry in list_entries(services)])


def _nest(entries: Sequence[Entry], values: Mapping[str, object]) -> dict[str, Any]:
    """The values in the shape of `Settings`, each at the path of its entry."""
    nested: dict[str, Any] = {}
    for entry in entries:
        place = nested
        for step in entry.path[:-1]:
            place = place.setdefault(step, {})
        if entry.variable.name in values:
            place[entry.path[-1]] = values[entry.variable.name]
    return nested


def _refuse(problems: Sequence[str]) -> None:
    """Raises ConfigurationError if there are problems."""
    if len(problems) == 1:
        raise ConfigurationError(problems[0])
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigurationError(f"{len(problems)} settings are wrong:{lines}")
