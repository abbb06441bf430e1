"""The text of steps as it comes, and what a further attempt replaces."""

from collections.abc import AsyncIterator

import pytest

from agent_service.client import RequestEvent, TextPiece
from agent_service.client.step_text import read_text
from agent_service.domain.errors import BaseServiceRejected, NotCompleted
from agent_service.domain.json_value import JsonObject


def event(kind: str, step: str | None = None, attempt: int = 1, delta: str | None = None) -> RequestEvent:
    raw: JsonObject = {"step": step, "attempt": attempt, "delta": delta}
    return RequestEvent.read(raw, type=kind, id="")


def delta(text: str, step: str = "a", attempt: int = 1) -> RequestEvent:
    return event("output.delta", step, attempt, text)


async def pieces(*events: RequestEvent, step: str | None = None) -> list[TextPiece]:
    async def each() -> AsyncIterator[RequestEvent]:
        for one in events:
            yield one

    return [piece async for piece in read_text(each(), request_id="r1", step=step)]


def kept(shown: list[TextPiece], step: str) -> str:
    """The text of a step, read as `restarted` asks for."""
    text = ""
    for piece in shown:
        if piece.step == step:
            text = "" if piece.restarted else text + piece.text
    return text


async def test_the_text_of_a_step_ends_with_the_step() -> None:
    shown = await pieces(
        event("request.accepted"),
        event("step.running", "a"),
        delta("x"),
        delta("other", step="b"),
        delta("y"),
        event("step.completed", "a"),
        delta("late", step="a"),
        step="a",
    )
    assert shown == [TextPiece(step="a", text="x", attempt=1), TextPiece(step="a", text="y", attempt=1)]


async def test_an_attempt_that_begins_anew_says_at_once_to_forget_what_came_before() -> None:
    shown = await pieces(
        event("step.running", "a"),
        delta("x"),
        event("step.retrying", "a"),
        event("step.running", "a", 2),
        event("step.running", "a", 3),
        delta("z", attempt=3),
        event("request.completed"),
    )
    assert [piece.restarted for piece in shown] == [False, True, False]
    assert shown[1].text == ""
    assert kept(shown, "a") == "z"


async def test_a_reader_that_was_not_shown_the_beginning_of_an_attempt_is_told_all_the_same() -> None:
    shown = await pieces(delta("x"), delta("y", attempt=2), event("request.completed"))
    assert kept(shown, "a") == "y"


async def test_the_texts_of_several_steps_are_told_apart() -> None:
    shown = await pieces(
        delta("1", "a"), delta("2", "b"), event("step.running", "a", 2), delta("3", "a", 2),
        event("request.completed"),
    )  # fmt: skip
    assert (kept(shown, "a"), kept(shown, "b")) == ("3", "2")


@pytest.mark.parametrize("kind", ["failed", "cancelled"])
async def test_a_text_that_is_cut_off_never_looks_like_a_whole_one(kind: str) -> None:
    with pytest.raises(NotCompleted, match=f"r1 ended as {kind}: step a"):
        await pieces(delta("x"), event(f"step.{kind}", "a"), step="a")
    with pytest.raises(NotCompleted, match=f"r1 ended as {kind}"):
        await pieces(delta("x"), event(f"request.{kind}"))


async def test_a_step_that_does_not_exist_is_told() -> None:
    with pytest.raises(BaseServiceRejected, match="no step 'c'"):
        await pieces(delta("x"), event("request.completed"), step="c")
