"""configure_logging: one sink for loguru and for the logging module, for people or for machines."""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from types import TracebackType
from typing import Literal, TextIO

import loguru
from loguru import logger

from agent_service.telemetry.spaced import Spaced

#: Fields of a JSON line that a bound field of the same name must not replace.
_OWN_FIELDS = frozenset({"time", "level", "logger", "message", "exception"})
#: What in a value of a console line could be taken for the beginning of another field.
_AMBIGUOUS = re.compile(r'[\s="]')
#: Quieter than the others: below WARNING they tell whole documents, headers and addresses, or every request.
_TALKATIVE = ("aiohttp", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "pymongo", "uvicorn.access")

#: What MongoDB's drivers consist of; they log what fails in their background, and go on.
_DRIVERS = frozenset({"pymongo", "motor"})
_TROUBLE_TOLD_EVERY = timedelta(minutes=1)

#: The levels that the logging module and loguru call alike.
_SHARED_LEVELS: dict[int, str | int] = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRITICAL",
}


def configure_logging(
    *,
    level: str,
    format: Literal["console", "json"],  # noqa: A002 - called as the variable LOG_FORMAT is
    stream: TextIO | None = None,
) -> None:
    """
    Send all that is logged from `level` upwards to `stream` (stderr if None), and to nothing else.

    One line per message, whatever stands in it; tracebacks never show the values of variables. What
    libraries log through the logging module goes the same way, from WARNING upwards (uvicorn: INFO), and so
    does what ends a thread. What MongoDB's driver meets in its background, where it tries again by itself, is
    one warning a minute.
    Raises ValueError if there is no such level.
    """
    target = sys.stderr if stream is None else stream
    render = _render_json if format == "json" else _render_console
    logger.remove()
    logger.add(_make_sink(target, render), level=level, format=_no_text, backtrace=False, diagnose=False)
    _take_over_standard_logging()


def _make_sink(
    stream: TextIO, render: Callable[["loguru.Record"], str]
) -> Callable[["loguru.Message"], None]:
    def write(message: "loguru.Message") -> None:
        line = render(message.record)
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()

    return write


def _no_text(_record: "loguru.Record") -> str:
    """Keeps loguru from building a text of its own: the sinks render the record."""
    return ""


def _render_json(record: "loguru.Record") -> str:
    fields: dict[str, object] = {
        "time": record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
    }
    for name, value in _present(record):
        fields[f"extra_{name}" if name in _OWN_FIELDS else str(name)] = value
    if record["exception"] is not None:
        fields["exception"] = _format_exception(record["exception"])
    try:
        return json.dumps(fields, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # A value that is no JSON even so (NaN, a mapping with odd keys, a cycle) becomes text.
        return json.dumps({name: str(value) for name, value in fields.items()})


def _render_console(record: "loguru.Record") -> str:
    time = record["time"].strftime("%H:%M:%S")
    extra = "".join(f"  {_escape(name)}={_quoted(value)}" for name, value in _present(record))
    line = f"{time} {record['level'].name:<8} {_escape(record['message'])}{extra}"
    if record["exception"] is None:
        return line
    # Indented, so that no line of it can pass for a message.
    lines = _format_exception(record["exception"]).split("\n")
    return "\n".join([line, *(f"    {_escape(text)}" for text in lines)])


def _present(record: "loguru.Record") -> Iterator[tuple[str, object]]:
    """The bound fields; one that is None says that there is no such thing here."""
    return ((name, value) for name, value in record["extra"].items() if value is not None)


def _quoted(value: object) -> str:
    """A field's value; in quotes where it could pass for several fields, or for the end of the line."""
    text = _escape(value)
    if not _AMBIGUOUS.search(text):
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def _format_exception(exception: "loguru.RecordException") -> str:
    return "".join(traceback.format_exception(*exception)).rstrip("\n")


def _escape(value: object) -> str:
    """`value` as text in which line ends, terminal commands and invisible characters are spelt out."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _Forwarder(logging.Handler):
    """Hands the records of the logging module, and what ended a thread, on to loguru."""

    def __init__(self) -> None:
        super().__init__()
        self._troubles = Spaced(_TROUBLE_TOLD_EVERY)

    def emit(self, record: logging.LogRecord) -> None:
        """Log `record` once more, under the name and place of its origin."""
        try:
            message = record.getMessage()
        except (KeyError, TypeError, ValueError):
            # The arguments do not fit the text; better the text alone than a lost message.
            message = str(record.msg)

        def restore_origin(target: "loguru.Record") -> None:
            target["name"], target["function"], target["line"] = record.name, record.funcName, record.lineno

        log = logger.patch(restore_origin)
        error, trace = record.exc_info[1:] if record.exc_info else (None, None)
        # asyncio logs what ends a task of the driver's.
        if error is not None and (_is_of_driver(record.name) or _is_begun_by_driver(trace)):
            self._tell_of_trouble(log, message, error)
            return
        level = _SHARED_LEVELS.get(record.levelno, record.levelno)
        log.opt(exception=record.exc_info).log(level, message)

    def take_thread(self, end: threading.ExceptHookArgs) -> None:
        """Log what ended a thread, which Python would write to stderr."""
        error = end.exc_value
        if error is None or isinstance(error, SystemExit):
            return
        name = end.thread.name if end.thread is not None else "?"
        if _is_begun_by_driver(end.exc_traceback):
            self._tell_of_trouble(logger, f"the thread {name} ended", error)
        else:
            logger.opt(exception=error).error("the thread {} ended with {}", name, type(error).__name__)

    def _tell_of_trouble(self, log: "loguru.Logger", message: str, error: BaseException) -> None:
        log.opt(exception=error).debug("MongoDB's driver had trouble in the background: {}", message)
        if self._troubles.is_due():
            first_line, *_ = str(error).partition(", full error:")[0].splitlines() or [""]
            log.warning(
                "MongoDB's driver had trouble in the background, and goes on: {}: {}",
                type(error).__name__,
                first_line[:300],
            )


def _is_of_driver(module: str) -> bool:
    return module.partition(".")[0] in _DRIVERS


def _is_begun_by_driver(trace: TracebackType | None) -> bool:
    """Whether a task or thread of the driver's own ended; what we call it for is ours to catch."""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in ("threading", "asyncio"):
            return _is_of_driver(module)
        trace = trace.tb_next
    return False


def _take_over_standard_logging() -> None:
    forwarder = _Forwarder()
    logging.basicConfig(handlers=[forwarder], level=logging.WARNING, force=True)
    threading.excepthook = forwarder.take_thread
    for name in ("uvicorn", "uvicorn.error", *_TALKATIVE):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING if name in _TALKATIVE else logging.INFO)
    logging.captureWarnings(True)
