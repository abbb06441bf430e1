"""Sources: where the text of a variable comes from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from dotenv.parser import parse_stream

Origin: TypeAlias = Literal["environment", ".env", "secret file", "default"]

#: What Kubernetes puts into every container for a service of the same namespace, as in API_PORT=tcp://10.0.0.1:80.
_INJECTED_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The text of a variable, and where it stood."""

    text: str = field(repr=False)
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The environment before `.env` before the folder of secrets; an empty text counts as not set."""

    environ: Mapping[str, str] = field(repr=False)
    env_file: Mapping[str, str] = field(repr=False)
    secrets_folder: Path | None
    #: What could not be read, one sentence each.
    problems: Sequence[str] = ()

    def find(self, name: str) -> Found | None:
        """
        The text of the variable `name`, from the first source that has it.

        Raises OSError or UnicodeDecodeError when its secret file is there and cannot be read.
        """
        text = self.environ.get(name, "")
        if text and not is_injected(name, text):
            return Found(text=text, origin="environment")
        text = self.env_file.get(name, "")
        if text:
            return Found(text=text, origin=".env")
        text = self._read_secret(name)
        return Found(text=text, origin="secret file") if text else None

    def _read_secret(self, name: str) -> str:
        if self.secrets_folder is None:
            return ""
        path = self.secrets_folder / name.lower()
        return path.read_text(encoding="utf-8").rstrip("\r\n") if path.is_file() else ""


def read_sources(environ: Mapping[str, str], env_file: Path | None, secrets_folder: Path | None) -> Sources:
    """The sources, with `.env` read; a file or folder that is not there is no problem."""
    values: dict[str, str] = {}
    problems: list[str] = []
    if env_file is not None and env_file.is_file():
        try:
            with env_file.open(encoding="utf-8") as stream:
                bindings = list(parse_stream(stream))
        except (OSError, UnicodeDecodeError) as error:
            # The text of a decoding error quotes the file.
            bindings = []
            problems.append(f"{env_file} must be a readable text file in UTF-8 ({type(error).__name__})")
        for binding in bindings:
            if binding.error:
                problems.append(f"{env_file} line {binding.original.line} must be NAME=value or a comment")
            elif binding.key is not None:
                values[binding.key] = binding.value or ""
    return Sources(environ=environ, env_file=values, secrets_folder=secrets_folder, problems=tuple(problems))


def is_injected(name: str, text: str) -> bool:
    """Whether Kubernetes set this port, for a service that happens to be called like one of ours."""
    return name.endswith("_PORT") and _INJECTED_ADDRESS.match(text) is not None
