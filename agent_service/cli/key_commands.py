"""The commands about API keys; they speak to MongoDB, or to a file with `--file`."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.open_store import open_store
from agent_service.cli.printing import show_time
from agent_service.domain.api_key import LONGEST_NAME, ORGANIZATION_ID, USUAL_SCOPES, ApiKey, Scope, make_key
from agent_service.domain.errors import ConfigurationError
from agent_service.keys.key_file import KeyFile
from agent_service.settings import load_settings

keys = App(name="keys", help="Make, list and revoke the API keys of organizations.")

_LONGEST = timedelta(days=3650)


@keys.command
def create(
    organization: str,
    *,
    scope: Annotated[tuple[Scope, ...], Parameter(negative="")] = (),
    name: str = "",
    days: float | None = None,
    file: Path | None = None,
) -> int:
    """
    Make an API key and print it; nobody can print it a second time.

    Parameters
    ----------
    organization
        Whose key it is: letters, digits and any of . _ -
    scope
        What it lets its holder do: submit, read, cancel, admin; may be repeated. Without it: submit, read
        and cancel. `admin` shows workers and metrics, and includes none of the others.
    name
        What `list` says of it.
    days
        It expires after so many days; without it, it serves until it is revoked.
    file
        Keep it in this file, for API_KEYS_FILE, in place of MongoDB.
    """
    if not ORGANIZATION_ID.fullmatch(organization):
        raise ConfigurationError(
            f"an organization cannot be named {organization!r}: use letters, digits and any of . _ -, with a"
            " letter or digit first, 128 characters at most"
        )
    if len(name) > LONGEST_NAME or not (name.isprintable() or not name):
        raise ConfigurationError(f"--name takes {LONGEST_NAME} printable characters at most")
    if days is not None and not 0 < days <= _LONGEST.days:
        raise ConfigurationError(f"--days takes days above 0 and below ten years, not {days:g}")
    now = _now()
    key, text = make_key(
        organization,
        scopes=scope or USUAL_SCOPES,
        name=name,
        expires_at=None if days is None else now + timedelta(days=days),
        now=now,
    )
    if file is None:
        asyncio.run(_insert(key))
    else:
        KeyFile(file).add(key)
    print(f"this is the only time that the key is shown: {_line(key, now)}", file=sys.stderr)
    print(text)
    return ExitCode.DONE


@keys.command(name="list")
def list_keys(
    *,
    organization: str | None = None,
    file: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """
    Print the keys of MongoDB, or of a file, with all but their secrets.

    Parameters
    ----------
    organization
        Only keys of this organization.
    file
        The keys of this file, in place of those in MongoDB.
    as_json
        Print a JSON array instead.
    """
    if file is None:
        found: Sequence[ApiKey] = asyncio.run(_all(organization))
    else:
        kept = KeyFile(file).keys().values()
        found = [key for key in kept if organization in (None, key.organization_id)]
    now = _now()
    if as_json:
        print(json.dumps([_document(key, now) for key in found], indent=2, ensure_ascii=False))
    else:
        print("".join(f"{_line(key, now)}\n" for key in found), end="")
    return ExitCode.DONE


@keys.command
def revoke(key_id: str, *, file: Path | None = None) -> int:
    """
    End a key for good; within seconds it opens nothing any more, and streams that it opened end.

    Parameters
    ----------
    key_id
        The id that `list` prints.
    file
        The key is kept in this file, and not in MongoDB.
    """
    now = _now()
    key = asyncio.run(_revoke(key_id, now)) if file is None else KeyFile(file).revoke(key_id, now)
    if key is None:
        place = "MongoDB" if file is None else str(file)
        print(f"agent-service: no key {key_id!r} in {place}; see `agent-service keys list`", file=sys.stderr)
        return ExitCode.NOT_FOUND
    print(_line(key, now), file=sys.stderr)
    return ExitCode.DONE


async def _insert(key: ApiKey) -> None:
    async with open_store(load_settings()) as store:
        await store.keys.insert(key)


async def _all(organization: str | None) -> list[ApiKey]:
    async with open_store(load_settings()) as store:
        return await store.keys.all(organization)


async def _revoke(key_id: str, now: datetime) -> ApiKey | None:
    async with open_store(load_settings()) as store:
        return await store.keys.revoke(key_id, now)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _line(key: ApiKey, now: datetime) -> str:
    words = [key.id, key.organization_id, key.state(now), ",".join(sorted(key.scopes))]
    words += [f"{what} {show_time(at)}" for what, at in _times(key) if at is not None]
    return "  ".join(words + ([key.name] if key.name else []))


def _document(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "organization_id": key.organization_id,
        "name": key.name,
        "state": key.state(now),
        "scopes": sorted(key.scopes),
        **{f"{what}_at": None if at is None else show_time(at) for what, at in _times(key)},
    }


def _times(key: ApiKey) -> Sequence[tuple[str, datetime | None]]:
    return (
        ("created", key.created_at),
        ("expires", key.expires_at),
        ("revoked", key.revoked_at),
        ("last_used", key.last_used_at),
    )
