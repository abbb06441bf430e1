"""log_lines: what is logged while a block runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def log_lines(level: str = "WARNING") -> Iterator[list[str]]:
    """The lines of this level and above, each as `LEVEL message` with its traceback, if it has one."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level=level, format="{level} {message}")
    try:
        yield lines
    finally:
        logger.remove(sink)
