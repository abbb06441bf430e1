"""The table of all variables, read from the annotations of the settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic.fields import FieldInfo

from agent_service.settings.models import Settings
from agent_service.settings.sections import Section
from agent_service.settings.service import ServiceSettings
from agent_service.settings.variable import Variable

#: The headings of the fields that stand in no section.
_UNTITLED, _SERVICES = "Requests and processes", "Further base services"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One variable and the place in `Settings` that it fills."""

    variable: Variable
    path: tuple[str, ...]
    #: The type of its value, with all checks.
    type: object
    #: The heading it stands under.
    title: str
    #: As it would be written into the environment; empty where the default is "not set".
    default: str


def list_entries(services: Sequence[str]) -> tuple[Entry, ...]:
    """Every variable that is read when `services` are known, in the order of the settings."""
    return tuple(_walk(services))


def list_service_entries(service: str) -> tuple[Entry, ...]:
    """The variables of one service."""
    title = f"Base service {service}"
    entries = _list_section(ServiceSettings, path=("services", service), title=title)
    prefix = service.upper()
    return tuple(
        replace(entry, variable=replace(entry.variable, name=f"{prefix}_{entry.variable.name}"))
        for entry in entries
    )


def _walk(services: Sequence[str]) -> Iterator[Entry]:
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if name == "services":
            for service in services:
                yield from list_service_entries(service)
        elif isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _list_section(annotation, path=(name,), title=annotation.title)
        else:
            title = _SERVICES if name == "further_services" else _UNTITLED
            yield from _list_field(name, field, path=(), title=title)


def _list_section(section: type[Section], *, path: tuple[str, ...], title: str) -> Iterator[Entry]:
    for name, field in section.model_fields.items():
        yield from _list_field(name, field, path=path, title=title)


def _list_field(name: str, field: FieldInfo, *, path: tuple[str, ...], title: str) -> Iterator[Entry]:
    for item in field.metadata:
        if isinstance(item, Variable):
            checked = Annotated[field.annotation, *field.metadata]  # type: ignore[name-defined]  # a value here
            # A default that depends on another field is told in words, in `about`.
            default = "" if field.default_factory is not None else item.render(field.default)
            yield Entry(variable=item, path=(*path, name), type=checked, title=title, default=default)
