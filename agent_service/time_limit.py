"""TimeLimit: ends what takes too long, as `asyncio.timeout` does at several times the cost."""

import asyncio
from datetime import timedelta
from typing import Any, Self


class TimeLimit:
    """
    `with TimeLimit(limit):` raises `TimeoutError` in what takes longer; `expired` says whether it did.

    Somebody else who cancels the task meanwhile is not taken for it.
    """

    __slots__ = ("_alarm", "_cancelling", "_seconds", "_task", "expired")

    def __init__(self, limit: timedelta) -> None:
        self._seconds = limit.total_seconds()
        self.expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._cancelling = task.cancelling()
        self._alarm = asyncio.get_running_loop().call_later(self._seconds, self._expire)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._alarm.cancel()
        # Where somebody else cancelled the task as well, that is what counts.
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()
