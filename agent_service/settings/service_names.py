"""The names of the services that have settings, and which names a further one may have."""

from collections.abc import Sequence

from agent_service.domain.request import STEP_NAME

#: These always have settings, whether they are used or not.
STANDARD_SERVICES = ("generation", "analysis", "communication")


def parse_service_names(text: str | Sequence[str]) -> tuple[str, ...]:
    """The names in `text`, separated by commas, each once and without the standard ones."""
    names = (name.strip() for name in (text.split(",") if isinstance(text, str) else text))
    return tuple(dict.fromkeys(name for name in names if name and name not in STANDARD_SERVICES))


def find_name_problem(name: str, taken: Sequence[str]) -> str | None:
    """
    Why no service can be called `name` beside the variables `taken`; None if one can.

    `generation_max` could not be told from GENERATION_MAX_ATTEMPTS, nor `log` from LOG_LEVEL.
    """
    if not STEP_NAME.fullmatch(name):
        return (
            f"the service name {name!r} must be a lower-case letter"
            " and at most 62 more of lower-case letters, digits and _"
        )
    prefix = name.upper()
    for variable in taken:
        if variable == prefix or variable.startswith(f"{prefix}_"):
            return f"the service name {name!r} is taken by the variable {variable}; choose another name"
    return None
