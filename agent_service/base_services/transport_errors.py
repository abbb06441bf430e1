"""
The errors of HTTP libraries, translated into ours.

A caller may inject a client of either httpx generation, and only one of them need be installed. Their
errors have the same names, so they are told apart by name, over the whole chain of causes: the aiohttp
transport reports a lost connection as `ConnectTimeout`, and only the cause under it tells the truth.
"""

from collections.abc import Iterator

from agent_service.domain.errors import BaseServiceUnavailable

#: The first row with a name in the chain decides: the row's error code.
_CODES: tuple[tuple[str, frozenset[str]], ...] = (
    ("connection_lost", frozenset({"ClientPayloadError"})),
    ("invalid_answer", frozenset({"DecodingError", "HttpProcessingError", "ClientResponseError"})),
    ("connect_failed", frozenset({"ClientConnectorError", "ConnectionTimeoutError"})),
    ("connection_lost", frozenset({"ServerDisconnectedError", "ClientOSError"})),
    ("connect_failed", frozenset({"ConnectError", "ConnectTimeout", "ProxyError", "PoolTimeout"})),
    ("timeout", frozenset({"TimeoutException", "TimeoutError"})),
)
_SAID = {
    "connect_failed": "could not be reached",
    "connection_lost": "closed the connection before its answer was complete",
    "invalid_answer": "sent what is not valid HTTP, or cannot be decoded",
    "timeout": "did not answer in time",
}


def transport_error(error: Exception, *, answered: bool) -> BaseServiceUnavailable:
    """The error for whatever an HTTP client raised; its own text is left out, it may name anything."""
    code = _code(error, answered)
    message = f"the base service {_SAID[code]} ({type(error).__name__})"
    return BaseServiceUnavailable(code, message, answered=answered)


def _code(error: Exception, answered: bool) -> str:
    classes = [cls for link in _chain(error) for cls in type(link).__mro__]
    names = {cls.__name__ for cls in classes}
    for code, wanted in _CODES:
        if names & wanted:
            return code
    # Bytes that are no HTTP answer at all, as httpx with h11 tells it.
    if not answered and any(cls.__module__.startswith("h11") for cls in classes):
        return "invalid_answer"
    return "connection_lost"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        # httpcore raises "from None", and only the context still names what h11 found wrong.
        link = link.__cause__ or link.__context__
