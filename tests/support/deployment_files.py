"""What Dockerfile and docker-compose.yml say, for the tests that check it and the tests that run it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]

#: The containers that run this project's image.
OWN_CONTAINERS = ("api", "worker-generative", "worker-analysis", "worker-communication", "worker-callback")


def read_dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, in order; comments and line breaks undone."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(instruction, arguments) for instruction, arguments in pairs]


def last_instruction(name: str) -> str:
    """The arguments of the last `name` in the Dockerfile: the one in force."""
    return next(arguments for instruction, arguments in reversed(read_dockerfile()) if instruction == name)


def exec_form(arguments: str) -> list[str]:
    """The words of an instruction in exec form; raises ValueError when it is in shell form."""
    words = json.loads(arguments)
    return [str(word) for word in words]


def image_command() -> list[str]:
    """What the image runs as its entry point, without tini, which only hands signals on."""
    entrypoint = exec_form(last_instruction("ENTRYPOINT"))
    return entrypoint[entrypoint.index("--") + 1 :]


def read_compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors resolved."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def container_environment(container: str) -> dict[str, str | None]:
    """The environment of a container as written; None is taken from the shell of who starts it."""
    environment: dict[str, str | None] = read_compose()["services"][container]["environment"]
    return environment
