"""The headers of a call, with an index: each call is asked for a dozen of them, and most are not there."""

from fastapi import Request as HttpRequest
from starlette.datastructures import Headers
from starlette.types import Scope

#: Where the headers of a call are kept.
_SCOPE_KEY = "agent_service.headers"


class IndexedHeaders(Headers):
    """Headers that are found without going through all of them; as in all of ASGI, names are lower case."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def getlist(self, key: str) -> list[str]:
        """Every value of a name, in the order of the call."""
        return self._values.get(key.lower(), [])

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower()][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._values


class Call(HttpRequest):
    """A call with indexed headers."""

    @property
    def headers(self) -> Headers:
        """Those that `headers_of` its scope finds."""
        return headers_of(self.scope)


def headers_of(scope: Scope) -> Headers:
    """The headers of the call of this scope, which are indexed once."""
    headers: Headers | None = scope.get(_SCOPE_KEY)
    if headers is None:
        headers = scope[_SCOPE_KEY] = IndexedHeaders(list(scope["headers"]))
    return headers
