"""Variable: what is known of one environment variable besides its type and default."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from agent_service.settings.masking import MASK, mask_uri

#: Who reads a variable.
API = ("api", "dev")
WORKER = ("worker", "dev")
DEV = ("dev",)
EVERY_ROLE = ("api", "worker", "dev")
CLIENT = ("commands",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """
    One environment variable; stands in the annotation of the settings field that it fills.

    `must_be` completes the sentence "the value must be …" and names the unit of a number.
    """

    #: The whole name; in the settings of a service what follows its prefix, as in `BASE_URL`.
    name: str
    about: str
    must_be: str
    read_by: Sequence[str]
    #: What one is, for a field that is a length of time.
    unit: timedelta = timedelta(seconds=1)
    #: `uri`: shown without user and password; `secret`: never shown.
    visibility: Literal["plain", "uri", "secret"] = "plain"

    def show(self, value: object) -> str:
        """`value` as it may be shown to people; nothing where it is not set."""
        text = self.render(value)
        if self.visibility == "secret":
            return MASK if text else ""
        return mask_uri(text) if self.visibility == "uri" else text

    def render(self, value: object) -> str:
        """`value` as one would write it into the environment, secrets in clear."""
        match value:
            case None:
                return ""
            case bool():
                return "true" if value else "false"
            case timedelta():
                return f"{value / self.unit:.15g}"
            case SecretStr():
                return value.get_secret_value()
            case tuple() | list():
                return ",".join(str(item) for item in value)
            case Path():
                return value.as_posix()
            case _:
                return str(value)
