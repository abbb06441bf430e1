"""StrictConnection: h11, which refuses besides what a proxy in front may have understood otherwise."""

import h11


class StrictConnection(h11.Connection):
    """
    The server's side of a connection on which nobody can hide a request in another one's body.

    h11 reads the chunks of a body that has a length too, and goes on after it, while a proxy that goes by the
    length has seen another end. RFC 9112, section 6.3, lets a server refuse that, or close after it.
    """

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event. Raises h11.RemoteProtocolError for a head that must not be served."""
        event = super().next_event()
        if type(event) is h11.Request and (problem := _problem(event)):
            raise h11.RemoteProtocolError(problem)
        return event


def _problem(head: h11.Request) -> str | None:
    if not head.http_version.startswith(b"1."):
        return "another major version of HTTP"
    names = [name for name, _ in head.headers]
    if b"transfer-encoding" in names and (b"content-length" in names or head.http_version == b"1.0"):
        return "a body whose end is ambiguous"
    return None
