"""LogWatch: reads the logs of all processes as they grow, and counts what they say."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

#: What differs between two lines that say the same.
_PARTICULARS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}(\.\w+)?|[0-9a-f]{16,}|\d+(\.\d+)?")
_LONGEST_MESSAGE = 160
_MOST_ODD_LINES = 50

REFUSED_WRITES = "the lease was lost before the outcome was written"
DROPPED_ATTEMPTS = "the lease was lost; the attempt is dropped"


class LogWatch:
    """`folder` has one folder with an `output.log` for each process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        #: Lines by level; what is no JSON has the level `none`.
        self.levels: Counter[str] = Counter()
        #: Warnings and worse by what they say, without numbers and ids.
        self.messages: Counter[str] = Counter()
        #: Lines that should not be there: with a traceback, an error, or no JSON; the first of them.
        self.odd: list[str] = []

    def look(self) -> None:
        """Read what is new."""
        for path in sorted(self._folder.glob("*/output.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                # A line that is still being written is for the next time.
                lines = [line for line in file if line.endswith(b"\n")]
            self._read[path] = self._read.get(path, 0) + sum(map(len, lines))
            for line in lines:
                self._take(path.parent.name, line.decode(errors="replace").rstrip())

    def _take(self, process: str, line: str) -> None:
        fields = _fields(line)
        level = str(fields.get("level", "none"))
        self.levels[level] += 1
        if level in ("DEBUG", "INFO"):
            return
        message = _PARTICULARS.sub("…", str(fields.get("message", line)))[:_LONGEST_MESSAGE]
        self.messages[f"{level} {message}"] += 1
        is_odd = level != "WARNING" or "exception" in fields
        if is_odd and len(self.odd) < _MOST_ODD_LINES:
            self.odd.append(f"{process}: {line[:3000]}")


def _fields(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
