"""LingeringProtocol: an answer that is given before the request has arrived reaches its client too."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import h11
from loguru import logger
from uvicorn.protocols.http.h11_impl import H11Protocol

from agent_service.local.connection_limits import USUAL_LIMITS, ConnectionLimits
from agent_service.local.strict_connection import StrictConnection
from agent_service.telemetry.spaced import Spaced

#: How long, and how much, is read and thrown away of what a client still sends after its answer.
LINGER_WITHIN = timedelta(seconds=5)
LINGER_BYTES = 64 * 1024 * 1024
#: Bytes that are sent in one piece at most.
MOST_GATHERED = 64 * 1024
#: Connections above their limit that are told so; those above that are closed without an answer.
MOST_TOLD = 64

#: A flood of connections must not become one of lines in the log.
_too_many = Spaced(timedelta(minutes=1))


class LingeringProtocol(H11Protocol):
    """
    Closes in stages where the client is still sending (RFC 9112, section 9.6).

    A socket that is closed with unread bytes in it is reset by the system, and so is one that receives more
    after that; a client that is reset throws away the answer if it has not read it yet. So the answer is
    followed by the end of our side alone, and what still comes is thrown away, until the client has closed
    too, or for `LINGER_WITHIN`, or for `LINGER_BYTES`. The rest of a body after which the connection can be
    used again has the same limits. What is no request in time is closed, and so is one connection too many,
    and one whose client does not take what it is sent.
    """

    conn: StrictConnection

    def __init__(
        self,
        *arguments: Any,
        limits: ConnectionLimits = USUAL_LIMITS,
        turned_away: "set[LingeringProtocol] | None" = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        #: Connections of this server that are closing because there were too many.
        self._turned_away = set() if turned_away is None else turned_away
        #: Runs while a head is awaited, of which something may have come.
        self._head_alarm: asyncio.TimerHandle | None = None
        self._head_begun = False
        #: Runs while what was sent is not taken.
        self._take_alarm: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # uvicorn calls it with nothing else
        self, transport: asyncio.Transport
    ) -> None:
        """Stand between uvicorn and its transport, to know of each close."""
        self._socket = transport
        #: Bytes that may still come of what is thrown away; None while nothing is.
        self._left: int | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self.conn = StrictConnection(self._limits)
        super().connection_made(_Gathering(transport, self))
        if len(self.connections) - len(self._turned_away) > self._limits.connections:
            self._turn_away()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing comes any more."""
        self._stop_counting()
        self._head_came()
        self._was_taken()
        self._turned_away.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes less than it is sent; one that goes on like that is given up."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """The client took most of it."""
        self._was_taken()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Hand on what belongs to a request, and throw away what comes after the end."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.close_at_once()
                return
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            begun = bool(self.conn.trailing_data[0])
            if begun and not self._head_begun:
                self._head_came()
            self._head_begun = begun
            self._await_head()
        else:
            self._head_came()
        if self._left is not None and self.conn.their_state is not h11.SEND_BODY:
            self._stop_counting()

    def on_response_complete(self) -> None:
        """Limit what still comes of a body that nobody reads, where the connection goes on after it."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.SEND_BODY:
            self._start_counting()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        self._refuse(self.conn.refusal)

    def _refuse(self, status: HTTPStatus, *headers: tuple[bytes, bytes]) -> None:
        """Answer without a body, as the answer to a HEAD can have none, and close."""
        # What is wrong may be the rest of a request that has its answer already.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = h11.Response(
                status_code=status, headers=[(b"content-length", b"0"), (b"connection", b"close"), *headers]
            )
            self.transport.write(self.conn.send(answer) or b"")
            self.transport.write(self.conn.send(h11.EndOfMessage()) or b"")
        self.transport.close()

    def _turn_away(self) -> None:
        """Close a connection that is one too many."""
        self._turned_away.add(self)
        if _too_many.is_due(self.server):
            logger.warning(
                "{} has {} connections and takes no more; API_MAX_CONNECTIONS says how many the API may have",
                ":".join(map(str, self.server or ["the server"])),
                self._limits.connections,
            )
        if len(self._turned_away) > MOST_TOLD:
            self._socket.close()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, (b"retry-after", b"1"))

    def _await_head(self) -> None:
        """Close unless a head is complete in time."""
        if self._head_alarm is None and not self.transport.is_closing():
            within = self._limits.head_timeout.total_seconds()
            self._head_alarm = self.loop.call_later(within, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_alarm = None
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            return
        begun, _ = self.conn.trailing_data
        if begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            # An answer to nothing would be taken for that to a request that is just being sent.
            self.timeout_keep_alive_handler()

    def _head_came(self) -> None:
        if self._head_alarm is not None:
            self._head_alarm.cancel()
            self._head_alarm = None
        self._head_begun = False

    def _await_taking(self) -> None:
        """Break the connection off unless what was sent is taken in time."""
        if self._take_alarm is None:
            within = self._limits.take_timeout.total_seconds()
            self._take_alarm = self.loop.call_later(within, self._socket.abort)

    def _was_taken(self) -> None:
        if self._take_alarm is not None:
            self._take_alarm.cancel()
            self._take_alarm = None

    def close_at_once(self) -> None:
        """Close, reading no more, when the client has taken what was sent, or has had the time for it."""
        self._socket.close()
        self._await_taking()

    def close_in_stages(self) -> None:
        """Close, at once where nothing more is coming, or where this was said before."""
        # In IDLE a head is awaited, which may be on its way; where one was refused the others stand.
        unread = self.conn.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR)
        if self._socket.is_closing() or not unread or not self._socket.can_write_eof():
            self.close_at_once()
            return
        self._socket.write_eof()
        self._start_counting()
        self.flow.resume_reading()

    def _start_counting(self) -> None:
        self._stop_counting()
        self._left = LINGER_BYTES
        self._alarm = self.loop.call_later(LINGER_WITHIN.total_seconds(), self.close_at_once)

    def _stop_counting(self) -> None:
        self._left = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class _Gathering(asyncio.Transport):
    """
    A transport that sends in one piece what is written together, and leaves `close` to the protocol.

    Head and body of an answer are written one after the other, and each piece costs the system, and whoever
    reads it, as much as both.
    """

    def __init__(self, transport: asyncio.Transport, protocol: LingeringProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._lingering = protocol
        self._closed = False
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def close(self) -> None:
        self._flush()
        if self._closed:
            self._lingering.close_at_once()
            return
        self._closed = True
        self._lingering.close_in_stages()

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._closed:
            return
        if not self._pieces:
            self._lingering.loop.call_soon(self._flush)
        self._pieces.append(data)
        self._size += len(data)
        # What is large is not copied for this, and whoever writes on and on is told to wait.
        if self._size > MOST_GATHERED:
            self._flush()

    def _flush(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if not pieces or self._transport.is_closing():
            return
        if len(pieces[-1]) > MOST_GATHERED:
            self._transport.writelines(pieces)
        else:
            self._transport.write(b"".join(pieces))

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
