"""Sources: where pydantic-settings finds the text of a variable; an empty one counts as not set."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SecretsSettingsSource

Origin: TypeAlias = Literal["environment", ".env", "secret file", "default"]

#: What Kubernetes puts into every container for a service of the same namespace, as in API_PORT=tcp://10.0.0.1:80.
_INJECTED_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class EnvironmentSource(EnvSettingsSource):
    """The environment, without what Kubernetes injected."""

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        # On Windows the library looks for the names in lower case.
        self.case_sensitive = True
        self.env_vars = {name: text or None for name, text in environ.items() if not is_injected(name, text)}


class EnvFileSource(DotEnvSettingsSource):
    """
    `.env`, if it is there; `problems` says what cannot be read.

    Parsed here, because the library would replace `${…}`, even in a password, and pass over wrong lines.
    """

    def __init__(self, settings_cls: type[BaseSettings], env_file: Path | None) -> None:
        self.problems: list[str] = []
        super().__init__(settings_cls, env_file=env_file)

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            with file_path.open(encoding="utf-8") as stream:
                bindings = list(parse_stream(stream))
        except (OSError, UnicodeDecodeError) as error:
            # The text of a decoding error quotes the file.
            reason = type(error).__name__
            self.problems.append(f"{file_path} must be a readable text file in UTF-8 ({reason})")
            return {}
        lines = (binding.original.line for binding in bindings if binding.error)
        self.problems += [f"{file_path} line {line} must be NAME=value or a comment" for line in lines]
        return {binding.key: binding.value or None for binding in bindings if binding.key is not None}


class SecretsFolderSource(SecretsSettingsSource):
    """The folder of secrets, if it is there; `problems` says what cannot be read."""

    def __init__(self, settings_cls: type[BaseSettings], folder: Path | None) -> None:
        self._folder = folder or Path()
        self.texts: dict[str, str] = {}
        self.problems: list[str] = []
        super().__init__(settings_cls, secrets_dir=folder if folder and folder.is_dir() else None)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """The text of the file called like the variable in lower case, unless an earlier source has one."""
        path = self._folder / field_name.lower()
        try:
            if field_name not in self.current_state and path.is_file():
                # Only the line end is dropped: a space may be part of a password.
                self.texts[field_name] = path.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{field_name}: its secret file cannot be read ({type(error).__name__})")
        return self.texts.get(field_name) or None, field_name, False


def is_injected(name: str, text: str) -> bool:
    """Whether Kubernetes set this port, for a service that happens to be called like one of ours."""
    return name.endswith("_PORT") and _INJECTED_ADDRESS.match(text) is not None
