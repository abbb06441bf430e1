"""The statuses of a context."""

from agent_service.domain.context import ContextStatus


def test_exactly_three_statuses_are_ends() -> None:
    ended = {status.value for status in ContextStatus if status.ended}
    assert ended == {"completed", "failed", "cancelled"}
