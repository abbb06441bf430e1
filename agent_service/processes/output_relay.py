"""OutputRelay: hands on what a child process writes, in whole lines that tell which process wrote them."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Literal

#: A line longer than this is handed on in pieces.
LONGEST_LINE = 1024 * 1024


class OutputRelay(asyncio.Protocol):
    """Reads one pipe; all relays of a process write in its event loop, so that no line breaks another one."""

    def __init__(self, to: BinaryIO, mark: Callable[[bytes], bytes]) -> None:
        self._to = to
        self._mark = mark
        self._rest = b""
        #: Set when nobody can write into the pipe any more, and everything was handed on.
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Hand on the lines that are complete, together: a traceback that came at once stays together."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        self._write(lines)

    def connection_lost(self, _error: Exception | None) -> None:
        """Hand on what its writer did not end."""
        if self._rest:
            self._write([self._rest])
        self.ended.set()

    def _write(self, lines: list[bytes]) -> None:
        # Where nobody reads our output any more, the pipe is still emptied: a full one would block the child.
        with suppress(OSError):
            self._to.write(b"".join(self._mark(line) + b"\n" for line in lines))
            self._to.flush()


def marker(number: int, log_format: Literal["console", "json"]) -> Callable[[bytes], bytes]:
    """
    Marks a line of the process with this number: `[2] …`, or the field `process` of a JSON object.

    With JSON, what is no object, such as the output of a library, becomes the `message` of one.
    """
    if log_format == "console":
        prefix = b"[%d] " % number
        return lambda line: prefix + line
    field = b'{"process": %d, ' % number

    def mark(line: bytes) -> bytes:
        if line.startswith(b'{"') and line.endswith(b"}"):
            return field + line[1:]
        return json.dumps({"process": number, "message": line.decode(errors="replace")}).encode()

    return mark
