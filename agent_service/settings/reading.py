"""read_variables: what pydantic-settings finds and checks, and where it stood."""

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agent_service.settings.sources import EnvFileSource, EnvironmentSource, Origin, SecretsFolderSource
from agent_service.settings.table import Entry
from agent_service.settings.variable import Variable

#: The sources of the reading that goes on here.
_sources: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("sources")


class Variables(BaseSettings):
    """What is read; a subclass has a field for every variable, called like it."""

    model_config = SettingsConfigDict(
        case_sensitive=True, enable_decoding=False, extra="ignore", validate_default=False
    )

    @classmethod
    def settings_customise_sources(
        cls, *_classes: object, **_usual_sources: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of this reading instead of the usual ones; the first goes before the others."""
        return _sources.get()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The variables that are set, by name; there are no values when one of them is wrong."""

    values: Mapping[str, Any]
    origins: Mapping[str, Origin]
    #: What could not be read or is wrong, one sentence each.
    problems: Sequence[str]
    #: All names in the environment and `.env`, known or not.
    names: frozenset[str]


def read_variables(
    entries: Sequence[Entry], environ: Mapping[str, str], env_file: Path | None, secrets_folder: Path | None
) -> Reading:
    """The variables of `entries` from `environ`, then `env_file`, then the files in `secrets_folder`."""
    variables = [entry.variable for entry in entries]
    fields = tuple((entry.variable.name, entry.type) for entry in entries)
    model = _model_of(fields)
    environment, dotenv = EnvironmentSource(model, environ), EnvFileSource(model, env_file)
    secrets = SecretsFolderSource(model, secrets_folder)
    values: dict[str, Any] = {}
    wrong: set[int | str] = set()
    token = _sources.set((environment, dotenv, secrets))
    try:
        read = model()
        values = {name: getattr(read, name) for name in read.model_fields_set}
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors(include_url=False, include_context=False)}
    finally:
        _sources.reset(token)
    # The last wins, as the first of the sources does.
    texts: dict[Origin, Mapping[str, str | None]] = {
        "secret file": secrets.texts,
        ".env": dotenv.env_vars,
        "environment": environment.env_vars,
    }
    found = {
        name: (origin, text)
        for origin, by_name in texts.items()
        for name, _type in fields
        if (text := by_name.get(name))
    }
    explained = [_explain(item, *found[item.name]) for item in variables if item.name in wrong]
    return Reading(
        values=values,
        origins={name: origin for name, (origin, _text) in found.items()},
        problems=(*dotenv.problems, *secrets.problems, *explained),
        names=frozenset({*environ, *dotenv.env_vars}),
    )


@cache
def _model_of(fields: tuple[tuple[str, Any], ...]) -> type[Variables]:
    """The model with these fields, by name and type; to make one takes pydantic tens of milliseconds."""
    with_defaults: dict[str, Any] = {name: (kind, None) for name, kind in fields}
    return create_model("VariablesWithFields", __base__=Variables, **with_defaults)


def _explain(variable: Variable, origin: Origin, text: str) -> str:
    # An address may hold a password in a place where nobody looks for it, so only plain values are shown.
    shown = f"is {text[:100]!r}" if variable.visibility == "plain" else "is wrong"
    place = "" if origin == "environment" else f" ({origin})"
    return f"{variable.name} {shown}{place}: it must be {variable.must_be}"
