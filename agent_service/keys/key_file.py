"""
KeyFile: API keys in a text file, one JSON object in each line, for use without MongoDB.

The file holds digests and no secrets. Empty lines and lines that begin with `#` are left alone.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_service.domain.api_key import DIGEST, KEY_ID, LONGEST_NAME, ORGANIZATION_ID, ApiKey, Scope
from agent_service.domain.errors import ConfigurationError

_REQUIRED = frozenset({"id", "digest", "organization_id", "scopes", "created_at"})
_FIELDS = _REQUIRED | {"name", "expires_at", "revoked_at"}

#: What tells one state of a file from another: device, inode, size, and time of the last change.
_Stamp = tuple[int, int, int, int]


class KeyFile:
    """The keys of one file, which is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: _Stamp | None = None
        self._keys: Mapping[str, ApiKey] = {}
        self._error: ConfigurationError | None = None

    def keys(self) -> Mapping[str, ApiKey]:
        """
        The keys by id, as the file has them now.

        Raises `ConfigurationError` that names the line, and never shows what stands in it.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            self._stamp = None
            raise ConfigurationError(self._unreadable(error)) from error
        stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp != self._stamp:
            self._keys, self._error = {}, None
            try:
                self._keys = self._read()
            except ConfigurationError as error:
                self._error = error
            self._stamp = stamp
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._keys

    def add(self, key: ApiKey) -> None:
        """Append a key, making the file if there is none. Raises `ConfigurationError`."""
        lines = self._lines() if self.path.exists() else []
        self._parse(lines)
        self._write([*lines, _line_of(key)])

    def revoke(self, key_id: str, now: datetime) -> ApiKey | None:
        """Mark a key as revoked; returns it, or None where there is none. Raises `ConfigurationError`."""
        lines = self._lines()
        key = self._parse(lines).get(key_id)
        if key is None or key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=now)
        self._write([_line_of(revoked) if _id_in(line) == key_id else line for line in lines])
        return revoked

    def _read(self) -> Mapping[str, ApiKey]:
        return self._parse(self._lines())

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(self._unreadable(error)) from None

    def _unreadable(self, error: Exception) -> str:
        # The text of a decoding error quotes the file.
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        return (
            f"the file of API keys {self.path} cannot be read: {reason}. API_KEYS_FILE names it; make it with"
            f" `agent-service keys create ORGANIZATION --file {self.path}`"
        )

    def _parse(self, lines: Iterable[str]) -> Mapping[str, ApiKey]:
        keys: dict[str, ApiKey] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                key = _key_of(line)
                if key.id in keys:
                    raise ValueError("its id stands in an earlier line too")
            except ValueError as error:
                raise ConfigurationError(f"{self.path} line {number} is no API key: {error}") from None
            keys[key.id] = key
        return keys

    def _write(self, lines: Iterable[str]) -> None:
        """Put a whole file in the place of the old one, so that nobody ever reads half of one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
            ) as stream:
                temporary = Path(stream.name)
                stream.writelines(f"{line}\n" for line in lines)
                stream.flush()
                os.fsync(stream.fileno())
            # It holds no secret, and the API may run as another user.
            temporary.chmod(0o644)
            temporary.replace(self.path)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}") from error


def _line_of(key: ApiKey) -> str:
    fields: dict[str, object] = {
        "id": key.id,
        "digest": key.digest,
        "organization_id": key.organization_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at.isoformat(),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }
    return json.dumps(fields, ensure_ascii=False)


def _id_in(line: str) -> str | None:
    return None if not line.strip() or line.startswith("#") else _key_of(line).id


def _key_of(line: str) -> ApiKey:
    """Raises ValueError in words that quote nothing of the line."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it must be one JSON object") from None
    if not isinstance(fields, dict):
        raise ValueError("it must be one JSON object")
    missing = sorted(_REQUIRED - fields.keys())
    if missing or not fields.keys() <= _FIELDS:
        named = (
            f"{', '.join(missing)} missing" if missing else f"it may have {', '.join(sorted(_FIELDS))} only"
        )
        raise ValueError(named)
    return ApiKey(
        id=_matching(fields, "id", KEY_ID.fullmatch, "16 hexadecimal digits"),
        digest=_matching(fields, "digest", DIGEST.fullmatch, "a SHA-256 in 64 hexadecimal digits"),
        organization_id=_matching(
            fields, "organization_id", ORGANIZATION_ID.fullmatch, "letters, digits and any of . _ -"
        ),
        name=_matching(
            {"name": fields.get("name", "")}, "name", _is_name, f"a text of {LONGEST_NAME} characters at most"
        ),
        scopes=_scopes(fields["scopes"]),
        created_at=_moment("created_at", fields["created_at"]),
        expires_at=_optional_moment("expires_at", fields.get("expires_at")),
        revoked_at=_optional_moment("revoked_at", fields.get("revoked_at")),
    )


def _matching(fields: Mapping[str, Any], name: str, is_right: Any, must_be: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not is_right(value):
        raise ValueError(f"{name} must be {must_be}")
    return value


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and (text.isprintable() or not text)


def _scopes(value: object) -> frozenset[Scope]:
    known = [scope.value for scope in Scope]
    if not isinstance(value, list) or not all(item in known for item in value):
        raise ValueError(f"scopes must be a list of any of {', '.join(known)}")
    return frozenset(Scope(item) for item in value)


def _optional_moment(name: str, value: object) -> datetime | None:
    return None if value is None else _moment(name, value)


def _moment(name: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"{name} must be a time such as 2026-01-31T12:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
