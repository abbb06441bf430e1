"""What people are shown of a request that runs, and of a list of requests."""

import io
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from agent_service.cli.exit_codes import ExitCode
from agent_service.cli.printing import print_lines, print_table
from agent_service.cli.watching import Narrator, Watch, run_watching
from agent_service.client import AgentClient, RequestEvent, RequestSummary
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.json_value import JsonObject


def tell(*events: tuple[str, JsonObject]) -> tuple[str, str]:
    """What the narrator writes as text, and what it says besides."""
    out, talk = io.StringIO(), io.StringIO()
    narrator = Narrator(out, talk)
    for kind, raw in events:
        narrator.tell(RequestEvent.read(raw, type=kind, id=""))
    return out.getvalue(), talk.getvalue()


def delta(step: str, text: str, attempt: int = 1) -> tuple[str, JsonObject]:
    return "output.delta", {"step": step, "attempt": attempt, "delta": text}


def test_texts_of_steps_that_run_at_the_same_time_are_told_apart() -> None:
    out, talk = tell(delta("a", "one"), delta("a", " two"), delta("b", "three"), delta("a", "four"))
    assert out == "one two\nthree\nfour"
    assert talk.splitlines() == ["b goes on", "a goes on"]


def test_an_attempt_that_begins_again_says_what_does_not_count() -> None:
    error: JsonObject = {"code": "http_503", "message": "busy"}
    out, talk = tell(
        ("step.running", {"step": "a", "attempt": 1}),
        delta("a", "wrong"),
        ("step.retrying", {"step": "a", "attempt": 1, "error": error}),
        ("step.running", {"step": "a", "attempt": 2}),
        delta("a", "right", 2),
        ("request.completed", {}),
    )
    assert out == "wrong\nright\n"
    assert talk.splitlines() == [
        "a running",
        "a retrying: http_503: busy",
        "a running again; its text so far does not count",
        "request completed",
    ]


class BreakingClient(AgentClient):
    """Has one event of every request, and then an error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__("http://127.0.0.1:9")
        self._error = error

    async def stream(
        self, request_id: str, *, after: str | None = None
    ) -> AsyncGenerator[RequestEvent, None]:
        yield RequestEvent.read({"type": "request.accepted"}, type="request.accepted", id="@0,a b:1.1")
        raise self._error


def interrupted(error: BaseException, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said on stderr when reading along ends so after its first event."""

    async def command(watch: Watch) -> ExitCode:
        async with BreakingClient(error) as client:
            await watch.follow(client, "r1", as_json=True)
        return ExitCode.DONE

    if isinstance(error, KeyboardInterrupt):
        assert run_watching(command) is ExitCode.INTERRUPTED
    else:
        with pytest.raises(type(error)):
            run_watching(command)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["type"] == "request.accepted"
    return captured.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseServiceUnavailable("c", "m")])
def test_whoever_stops_watching_is_told_how_to_see_the_rest(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    told = interrupted(error, capsys)
    assert "agent-service requests events r1 --after '@0,a b:1.1'" in told


def summary(**more: str) -> RequestSummary:
    steps = [{"name": "draft", "service": "generation"}, {"name": "check", "service": "analysis"}]
    created: JsonObject = {"created_at": "2026-01-31T12:00:00.000Z", "steps": steps}
    return RequestSummary.read({"id": "01a20801-d8c1-750a-8565-f89e254fa841", **created, **more})


async def each(*requests: RequestSummary) -> AsyncIterator[RequestSummary]:
    for request in requests:
        yield request


async def test_a_list_for_people_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    ended = summary(status="completed", finished_at="2026-01-31T12:00:01.250Z")
    await print_table(each(ended, summary(status="running")))
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "STATUS", "CREATED", "TOOK", "STEPS"]
    assert first.split() == [ended.id, "completed", "2026-01-31T12:00:00Z", "1.25", "s", "draft,", "check"]
    assert second.split() == [ended.id, "running", "2026-01-31T12:00:00Z", "draft,", "check"]
    assert [line.index("draft") for line in (first, second)] == [head.index("STEPS")] * 2


async def test_an_empty_table_is_talk(capsys: pytest.CaptureFixture[str]) -> None:
    await print_table(each())
    assert capsys.readouterr() == ("", "there is no such request\n")


async def test_a_list_for_programs_is_a_line_of_json_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    await print_lines(each(summary(status="later"), summary()))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("status") for line in lines] == ["later", None]
    assert sys.stdout.isatty() is False
