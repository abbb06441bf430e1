"""describe: the effective settings, for people."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent_service.settings.models import Settings
from agent_service.settings.sources import Origin
from agent_service.settings.table import list_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One variable with its effective value, masked where it is secret, and where the value came from."""

    name: str
    value: str
    source: Origin


def describe(settings: Settings) -> list[SettingRow]:
    """A row for every variable, in the order of `.env.example`; the value of an unset one is empty."""
    return [
        SettingRow(
            name=entry.variable.name,
            value=entry.variable.show(_look_up(settings, entry.path)),
            source=settings.origins.get(entry.variable.name, "default"),
        )
        for entry in list_entries(tuple(settings.services))
    ]


def _look_up(settings: Settings, path: tuple[str, ...]) -> object:
    value: object = settings
    for name in path:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value
