"""
Fail points: named places where a process can be made to die, stop, hang or raise, to see what that breaks.

The variable `AGENT_SERVICE_FAIL_POINT` arms them when a role starts: `name[@n]=action`, several separated
by commas. `n` is the time at which it acts, counted from 1 in this process; without it the first. Actions:

    kill    SIGKILL to itself: nothing is written, flushed or said any more
    stop    SIGSTOP to itself: it goes on, unaware, when somebody sends SIGCONT
    hang    the event loop never runs again, and the process stays
    raise   an exception that nobody expects

So `outcome.written@3=kill` kills the process right after its third bulk of outcomes was acknowledged.
Without the variable nothing is armed, and `reach` costs one comparison.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from agent_service.domain.errors import ConfigurationError

VARIABLE = "AGENT_SERVICE_FAIL_POINT"

#: Every fail point, with the module that reaches it.
FAIL_POINTS: Mapping[str, str] = {
    # A request comes in, or its planning is repeated.
    "request.inserted": "context_manager",
    "contexts.inserted": "context_manager",
    "request.planned": "store/planned_marks",
    # A worker claims.
    "claim.sending": "workers/claimer",
    "claim.answered": "workers/claimer",
    # An attempt.
    "attempt.before_call": "workers/execution",
    "attempt.after_call": "workers/execution",
    "chunk.sending": "workers/chunk_writer",
    "chunk.stored": "workers/chunk_writer",
    "outcome.sending": "workers/outcome_writer",
    "outcome.written": "workers/outcome_writer",
    # What follows from an end.
    "settle.before": "settler",
    "settle.consequences": "settler",
    "settle.expiry": "settler",
    "settle.statuses": "settler",
    "settle.settled": "store/settled_marks",
    # The same where a request has one step only.
    "settle_sole.before": "settler",
    "settle_sole.ended": "settler",
    # A lease is kept, given back, or taken away.
    "renew.sending": "workers/lease_keeper",
    "renew.answered": "workers/lease_keeper",
    "release.sending": "workers/execution",
    "hand_back.sending": "context_manager",
    "reclaim.before": "rescuer",
    "reclaim.taken": "rescuer",
    # A request is cancelled, or its deadline passes.
    "cancel.requested": "request_service",
    "cancel.flagged": "context_manager",
    "cancel.waiting": "context_manager",
    # A broken service is tried by one worker of the whole fleet.
    "probe.taken": "workers/service_gate",
    "probe.ending": "workers/probe",
    "probe.ended": "workers/probe",
    # What is due becomes claimable.
    "promote.before": "scheduler",
    "promote.done": "scheduler",
}

_ARMING = re.compile(r"(?P<name>[a-z_.]+)(@(?P<time>[1-9][0-9]{0,8}))?=(?P<action>[a-z]+)")


@dataclass(slots=True)
class _Armed:
    """What one fail point does, and how often it is passed before."""

    left: int
    action: Callable[[], None]


_armed: dict[str, _Armed] = {}


def reach(name: str) -> None:
    """The process is at the place of this name; returns unless it is armed."""
    if _armed:
        _act(name)


def arm(text: str) -> None:
    """
    Arm the fail points that `text` names and no others; an empty text arms none.

    Raises `ConfigurationError` for what is no fail point or no action.
    """
    armed = dict(_read(part.strip()) for part in text.split(",")) if text.strip() else {}
    _armed.clear()
    _armed.update(armed)


def arm_from_environment() -> None:
    """Arm what `AGENT_SERVICE_FAIL_POINT` names. Raises `ConfigurationError`."""
    arm(os.environ.get(VARIABLE, ""))


def _act(name: str) -> None:
    point = _armed.get(name)
    if point is None:
        return
    point.left -= 1
    if point.left == 0:
        point.action()


def _read(part: str) -> tuple[str, _Armed]:
    found = _ARMING.fullmatch(part)
    if found is None:
        raise ConfigurationError(f"{VARIABLE} must be like outcome.written@3=kill, and {part!r} is not")
    name, action = found["name"], found["action"]
    if name not in FAIL_POINTS:
        raise ConfigurationError(
            f"{VARIABLE} names {name!r}, which is no fail point; known are {', '.join(sorted(FAIL_POINTS))}"
        )
    if action not in _ACTIONS:
        raise ConfigurationError(
            f"{VARIABLE} wants {action!r} at {name}; what can be done is {', '.join(_ACTIONS)}"
        )
    return name, _Armed(left=int(found["time"] or 1), action=_ACTIONS[action])


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)


def _raise() -> NoReturn:
    # Of no class that anything here knows: that is the point of it.
    raise RuntimeError("a fail point was reached that is armed to raise")


_ACTIONS: Mapping[str, Callable[[], None]] = {"kill": _kill, "stop": _stop, "hang": _hang, "raise": _raise}
