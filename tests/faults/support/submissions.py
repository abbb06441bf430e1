"""What scenarios submit."""

from collections.abc import Mapping
from typing import Any


def diamond(*, queue: str = "default", service: str = "generation") -> Mapping[str, Any]:
    """Four steps: `top`, then `left` and `right`, then `bottom`, which takes what both of them gave."""

    def step(name: str, *after: str) -> dict[str, Any]:
        given = {before: f"{{{{ steps.{before}.output }}}}" for before in after}
        return {"name": name, "service": service, "queue": queue, "after": list(after), "input": given}

    return {
        "steps": [step("top"), step("left", "top"), step("right", "top"), step("bottom", "left", "right")]
    }


def single(*, queue: str = "default", service: str = "generation") -> Mapping[str, Any]:
    """One step, named like its service."""
    return {"service": service, "queue": queue, "input": {"say": "hello"}}


def named(step: str, *, queue: str = "default", service: str = "generation") -> Mapping[str, Any]:
    """One step of this name, by which the base service knows what it is to do."""
    return {"steps": [{"name": step, "service": service, "queue": queue, "input": {"say": "hello"}}]}
