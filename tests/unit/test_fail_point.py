"""Fail points: each stands where the list says, does what it is armed for, and nothing unless armed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_service.domain.errors import ConfigurationError
from agent_service.telemetry.fail_point import FAIL_POINTS, VARIABLE, arm, arm_from_environment, reach
from tests.support.commands import ROOT, run_module

_REACHES = re.compile(r"fail_point\.reach\((.*?)\)")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def start(program: str) -> subprocess.Popen[str]:
    head = "from agent_service.telemetry.fail_point import arm, reach\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_each_is_reached_once_and_only_where_the_list_says() -> None:
    package = ROOT / "agent_service"
    found = [
        (argument.strip('"'), path.relative_to(package).with_suffix("").as_posix())
        for path in sorted(package.rglob("*.py"))
        for argument in _REACHES.findall(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(FAIL_POINTS.items())


def test_nothing_happens_unless_it_is_armed() -> None:
    for name in FAIL_POINTS:
        reach(name)


def test_it_acts_at_the_first_time_unless_told_when() -> None:
    arm("claim.sending=raise")
    with pytest.raises(RuntimeError, match="armed to raise"):
        reach("claim.sending")
    reach("claim.sending")


def test_it_counts_the_times() -> None:
    arm("claim.sending@3=raise, claim.answered@2=raise")
    reach("claim.sending")
    reach("claim.sending")
    reach("claim.answered")
    with pytest.raises(RuntimeError, match="armed to raise"):
        reach("claim.sending")
    with pytest.raises(RuntimeError, match="armed to raise"):
        reach("claim.answered")


def test_arming_replaces_what_was_armed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    arm("claim.sending=raise")
    monkeypatch.setenv(VARIABLE, "claim.answered=raise")
    arm_from_environment()
    reach("claim.sending")
    with pytest.raises(RuntimeError, match="armed to raise"):
        reach("claim.answered")


def test_kill_leaves_no_time_for_anything() -> None:
    with start(
        "arm('claim.sending@2=kill')\nreach('claim.sending')\nprint('one', flush=True)\n"
        "reach('claim.sending')\nprint('two', flush=True)"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "one\n"
    assert process.returncode == -signal.SIGKILL


def test_a_stopped_process_goes_on_where_it_was() -> None:
    with start("arm('claim.sending=stop')\nreach('claim.sending')\nprint('awake', flush=True)") as process:
        deadline = time.monotonic() + 30
        while _state(process.pid) != "T":
            assert time.monotonic() < deadline, "it was not stopped"
            os.sched_yield()
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.read() == "awake\n"
    assert process.returncode == 0


def test_a_process_that_hangs_says_nothing_more_and_stays() -> None:
    program = "arm('claim.sending=hang')\nprint('hangs', flush=True)\nreach('claim.sending')\nprint('over')"
    with start(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.kill()
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("claim.sendin=kill", "'claim.sendin', which is no fail point; known are attempt.after_call, "),
        ("claim.sending=explode", "'explode' at claim.sending; what can be done is kill, stop, hang, raise"),
        ("claim.sending", "must be like outcome.written@3=kill, and 'claim.sending' is not"),
        ("claim.sending@0=kill", "and 'claim.sending@0=kill' is not"),
        ("claim.sending=kill,", "and '' is not"),
    ],
)
def test_what_cannot_be_armed_is_said(text: str, why: str) -> None:
    arm("claim.answered=raise")
    with pytest.raises(ConfigurationError, match=re.escape(why)):
        arm(text)
    with pytest.raises(RuntimeError):
        reach("claim.answered")


def test_a_role_does_not_start_with_a_fail_point_that_is_none(tmp_path: Path) -> None:
    values = {"MONGODB_URI": "mongodb://127.0.0.1:9/", VARIABLE: "no.such=kill"}
    result = run_module("agent_service", ["api"], folder=tmp_path, values=values)
    assert result.returncode == 2, result.stderr
    assert "AGENT_SERVICE_FAIL_POINT names 'no.such', which is no fail point" in result.stderr
    assert "Traceback" not in result.stderr


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
