"""load_settings: from the environment, `.env` and secret files to Settings; every mistake in one error."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from agent_service.domain.errors import ConfigurationError
from agent_service.settings.models import Settings
from agent_service.settings.service import ServiceSettings
from agent_service.settings.service_names import STANDARD_SERVICES, find_name_problem, parse_service_names
from agent_service.settings.sources import Found, Sources, read_sources
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
    sources = read_sources(os.environ if environ is None else environ, env_file, secrets_folder)
    problems = list(sources.problems)
    further = _find_services(sources, problems)
    services = (*STANDARD_SERVICES, *further)
    entries = list_entries(services)
    found = _find_all(sources, entries, problems)
    values = _nest(found, services)
    values["further_services"] = further
    names = [entry.variable.name for entry in entries]
    values["warnings"] = find_warnings(sources, names, services)
    values["origins"] = {entry.variable.name: item.origin for entry, item in found}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems.extend(_explain(error, found) or [str(error)])
        settings = Settings()
    if problems:
        _refuse(problems)
    return settings


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
    if problem is not None:
        _refuse([problem])
    sources = read_sources(os.environ if environ is None else environ, env_file, secrets_folder)
    problems = list(sources.problems)
    found = _find_all(sources, list_service_entries(name), problems)
    values = {entry.path[-1]: item.text for entry, item in found}
    try:
        settings = ServiceSettings.model_validate(values)
    except ValidationError as error:
        problems.extend(_explain(error, found, prefix=("services", name)) or [str(error)])
        settings = ServiceSettings()
    if problems:
        _refuse(problems)
    return settings


def _find_services(sources: Sources, problems: list[str]) -> tuple[str, ...]:
    """The further services that SERVICES names and that can be; the others become problems."""
    text = _read(sources, "SERVICES", problems)
    names = parse_service_names(text.text if text else "")
    usable: list[str] = []
    # The shorter first: only the variables of a shorter name can begin with a longer one.
    for name in sorted(names, key=len):
        problem = _find_service_problem(name, (*STANDARD_SERVICES, *usable))
        if problem is None:
            usable.append(name)
        else:
            problems.append(f"SERVICES is wrong: {problem}")
    return tuple(name for name in names if name in usable)


def _find_service_problem(name: str, services: Sequence[str] = STANDARD_SERVICES) -> str | None:
    if name in services:
        return None
    return find_name_problem(name, [entry.variable.name for entry in list_entries(services)])


def _read(sources: Sources, name: str, problems: list[str]) -> Found | None:
    try:
        return sources.find(name)
    except (OSError, UnicodeDecodeError) as error:
        # The text of a decoding error quotes the file.
        problems.append(f"{name}: its secret file cannot be read ({type(error).__name__})")
        return None


def _find_all(sources: Sources, entries: Sequence[Entry], problems: list[str]) -> list[tuple[Entry, Found]]:
    found = []
    for entry in entries:
        item = _read(sources, entry.variable.name, problems)
        if item is not None:
            found.append((entry, item))
    return found


def _nest(found: Sequence[tuple[Entry, Found]], services: Sequence[str]) -> dict[str, object]:
    """The texts in the shape of `Settings`, each at the path of its entry."""
    by_service: dict[str, dict[str, object]] = {service: {} for service in services}
    values: dict[str, object] = {"services": by_service}
    sections: dict[str, dict[str, object]] = {}
    for entry, item in found:
        match entry.path:
            case ("services", service, field):
                by_service[service][field] = item.text
            case (section, field):
                sections.setdefault(section, {})[field] = item.text
            case (field,):
                values[field] = item.text
    return {**values, **sections}


def _explain(
    error: ValidationError, found: Sequence[tuple[Entry, Found]], *, prefix: tuple[str, ...] = ()
) -> list[str]:
    """One sentence for each variable that is wrong; what only follows from another mistake is left out."""
    wrong = {(*prefix, *detail["loc"]) for detail in error.errors(include_url=False, include_context=False)}
    return [_describe_problem(entry, item) for entry, item in found if entry.path in wrong]


def _describe_problem(entry: Entry, item: Found) -> str:
    variable = entry.variable
    # An address may hold a password in a place where nobody looks for it, so only plain values are shown.
    shown = f"is {item.text[:100]!r}" if variable.visibility == "plain" else "is wrong"
    origin = "" if item.origin == "environment" else f" ({item.origin})"
    return f"{variable.name} {shown}{origin}: it must be {variable.must_be}"


def _refuse(problems: Sequence[str]) -> NoReturn:
    if len(problems) == 1:
        raise ConfigurationError(problems[0])
    lines = "".join(f"\n  {problem}" for problem in problems)
    raise ConfigurationError(f"{len(problems)} settings are wrong:{lines}")
