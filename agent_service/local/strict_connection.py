"""StrictConnection: h11, which refuses besides what a proxy in front may have understood otherwise."""

import re
from http import HTTPStatus

import h11
from h11 import _readers

from agent_service.local.connection_limits import ConnectionLimits

# With its own two expressions h11 takes a time that grows with the square of a line of blanks that ends in
# what fits nothing. These match the same, but for a carriage return in the extension of a chunk, and never go
# back over what they have matched. Whatever reads HTTP with h11 in this process has them.
_readers.header_field_re = re.compile(
    rb"(?P<field_name>[-!#$%&'*+.^_`|~0-9a-zA-Z]++):[ \t]*+"
    rb"(?P<field_value>(?:[^\x00\s]++(?:[ \t]++[^\x00\s]++)*+)?)[ \t]*+"
)
_readers.chunk_header_re = re.compile(
    rb"(?P<chunk_size>[0-9A-Fa-f]{1,20})(?:[ \t]*+|(?P<chunk_ext>;[^\r\n]*+))\r\n"
)


class StrictConnection(h11.Connection):
    """
    The server's side of a connection on which nobody can hide a request in another one's body.

    h11 reads the chunks of a body that has a length too, and goes on after it, while a proxy that goes by the
    length has seen another end. RFC 9112, section 6.3, lets a server refuse that, or close after it. It also
    reads heads of any size that come in one piece, and any number of headers.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__(h11.SERVER, limits.head_bytes)
        self._limits = limits
        #: What to answer to what was not understood.
        self.refusal = HTTPStatus.BAD_REQUEST

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event. Raises h11.RemoteProtocolError for a head that must not be served."""
        try:
            event = super().next_event()
            if type(event) is h11.Request:
                self._check(event)
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
                self.refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise
        return event

    def _check(self, head: h11.Request) -> None:
        if not head.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError("another major version of HTTP")
        if self._too_large(head):
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise h11.RemoteProtocolError("a head that is too large", error_status_hint=too_large)
        names = {name for name, _ in head.headers}
        if b"transfer-encoding" in names and (b"content-length" in names or head.http_version == b"1.0"):
            raise h11.RemoteProtocolError("a body whose end is ambiguous")

    def _too_large(self, head: h11.Request) -> bool:
        # Around the name and the value of each stand a colon, a space and the end of the line.
        size = sum(len(name) + len(value) + 4 for name, value in head.headers)
        size += len(head.method) + len(head.target)
        return len(head.headers) > self._limits.headers or size > self._limits.head_bytes
