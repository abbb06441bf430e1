"""Addresses: where a running `dev` can be reached, in a file of its data folder that others read."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "addresses.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything of one `dev` is; `mongodb_uri` is masked when it holds credentials."""

    pid: int
    api_url: str
    mongodb_uri: str
    #: The base service of each service that has one.
    base_urls: Mapping[str, str]
    #: Where the local communication service puts its messages; None when another service is configured.
    outbox: str | None


@contextmanager
def published(addresses: Addresses, data_folder: Path) -> Iterator[Path]:
    """Keep the file there while the block runs; it appears whole, and only its owner can read it."""
    path = data_folder / _FILE
    unfinished = path.with_suffix(f".{addresses.pid}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(asdict(addresses), indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def find_addresses(data_folder: Path) -> Addresses | None:
    """The addresses of the `dev` that runs on this folder; None if none does, or it was killed."""
    try:
        found = json.loads((data_folder / _FILE).read_text(encoding="utf-8"))
        addresses = Addresses(**found)
        return addresses if _is_running(addresses.pid) else None
    except (OSError, ValueError, TypeError, RecursionError):
        # Whatever this file is, no running `dev` wrote it.
        return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
