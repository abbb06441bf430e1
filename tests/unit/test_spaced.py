from datetime import timedelta

from agent_service.telemetry.spaced import Spaced


def test_one_of_each_kind_is_let_through_and_the_next_one_after_a_while() -> None:
    now = 100.0
    spaced = Spaced(timedelta(seconds=60), monotonic=lambda: now)
    assert [spaced.is_due(kind) for kind in (18, 18, 13, 18, 13)] == [True, False, True, False, False]
    now += 59.9
    assert not spaced.is_due(18)
    now += 0.1
    assert [spaced.is_due(kind) for kind in (18, 18)] == [True, False]
