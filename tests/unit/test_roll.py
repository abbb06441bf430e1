"""Roll: which lines a worker claims from next, and that nothing it was told of, or could see, is left."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_service.domain.line import Line, rank_at
from tests.support.contexts import NOW, SECOND
from tests.support.roll_actions import (
    LINES,
    Action,
    a_roll,
    claim,
    claim_apart,
    drain,
    happenings,
    look,
    run,
    submissions,
    tell,
    told,
)
from tests.support.waiting_in_lines import Waiting


def histories(
    submitting: Callable[[Sequence[Line]], st.SearchStrategy[Action]],
) -> st.SearchStrategy[list[Action]]:
    """What may happen in one line alone, or in several."""
    alone, several = (
        st.lists(submitting(lines) | happenings(lines), max_size=40) for lines in (LINES[:1], LINES[:5])
    )
    return alone | several


@given(actions=histories(told))
@example(
    actions=[
        ("submit", LINES[0], 5, "unnamed"),
        ("claim", 5, [], [("submit", LINES[0], 3, "unnamed")]),
    ]
)
@example(
    actions=[
        ("submit", LINES[0], 1, "named"),
        ("look", []),
        *(("submit", LINES[0], rank, "named") for rank in range(2, 7)),
        ("claim", 5, [("others", LINES[0], 1, "")], []),
    ]
)
@example(
    actions=[
        *(("submit", LINES[0], rank, "unnamed") for rank in (10, 20)),
        ("claim", 1, [], []),
        ("claim", 3, [], [("submit", LINES[0], 15, "named")]),
    ]
)
def test_whatever_it_was_told_of_is_claimed_without_a_further_look(actions: list[Action]) -> None:
    roll, waiting = a_roll(), Waiting()
    run(actions, roll, waiting)
    for _ in drain(roll, waiting):
        pass
    assert len(waiting) == 0


@given(actions=histories(submissions))
@example(actions=[("submit", LINES[0], rank, how) for rank, how in ((20, "unnamed"), (5, ""), (6, ""))])
def test_whatever_waits_in_a_few_lines_is_found_by_a_single_look(actions: list[Action]) -> None:
    roll, waiting = a_roll(), Waiting()
    run(actions, roll, waiting)
    look(roll, waiting)
    for _ in drain(roll, waiting):
        pass
    assert len(waiting) == 0


@given(
    unknown=st.lists(submissions(LINES[:5]), max_size=10),
    during=st.lists(told(LINES[:5]), max_size=10),
    limit=st.integers(1, 5),
)
def test_what_a_look_saw_is_claimed_whatever_was_told_during_it(
    unknown: list[Action], during: list[Action], limit: int
) -> None:
    roll, waiting = a_roll(), Waiting()
    run([(*each[:3], "") for each in unknown], roll, waiting)
    run([("look", during)], roll, waiting)
    for _ in drain(roll, waiting, limit):
        pass
    assert len(waiting) == 0


@given(
    ranks=st.lists(st.tuples(st.sampled_from(LINES[:8]), st.integers(1, 30)), max_size=60),
    others=st.lists(st.tuples(st.sampled_from(LINES[:8]), st.booleans()), max_size=60),
)
@example(
    ranks=[(line, rank) for line in LINES[:4] for rank in (1, 2)], others=[(line, True) for line in LINES[:4]]
)
def test_a_backlog_is_claimed_by_whoever_looks_again_where_more_may_follow(
    ranks: list[tuple[Line, int]], others: list[tuple[Line, bool]]
) -> None:
    roll, waiting = a_roll(), Waiting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent_service.workers.roll._MOST_DEEP", 3)
        for line, rank in ranks:
            waiting.submit(line, rank)
        look(roll, waiting)
        for line, heard in others:
            run([("others", line, 1, "told" if heard else "")], roll, waiting)
        while roll or roll.may_go_on:
            if not roll:
                look(roll, waiting)
            claim(roll, waiting, 4)
    assert len(waiting) == 0


def test_a_single_context_that_was_told_of_is_no_reason_to_look() -> None:
    roll, waiting = a_roll(), Waiting()
    tell(roll, LINES[0], waiting.submit(LINES[0], 1), named=True)
    assert len(claim(roll, waiting, 1)) == 1
    assert not roll
    assert not roll.may_go_on


def test_what_others_have_claimed_is_forgotten_with_the_next_look() -> None:
    roll, waiting = a_roll(), Waiting()
    for line in LINES[:2]:
        for rank in range(1, 21):
            tell(roll, line, waiting.submit(line, rank), named=True)
    others = [*waiting.lines[LINES[0]], *(each for each in waiting.lines[LINES[1]] if each.rank <= 19)]
    waiting.claim(others)
    look(roll, waiting)
    assert [each.rank for each in roll.choose(64).named] == [20]


def test_what_has_aged_is_over_with_what_had_waited_for_long() -> None:
    urgent, patient = LINES[0], LINES[12]
    roll, waiting = a_roll(ageing=10 * SECOND), Waiting()
    waiting.submit(patient, rank_at(NOW - 60 * SECOND))
    look(roll, waiting)
    for _ in drain(roll, waiting):
        pass
    for line in (patient, urgent):
        tell(roll, line, waiting.submit(line, rank_at(NOW)), named=True)
    assert [line for line, _ in claim(roll, waiting, 1)] == [urgent]


def test_lines_of_the_same_priority_take_turns_whatever_waits_in_them() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank, line in enumerate([LINES[0]] * 300 + LINES[1:4] * 40):
        waiting.submit(line, rank + 1)
    look(roll, waiting)
    taken = Counter(line for _ in range(10) for line, _ in claim(roll, waiting, 8))
    assert sum(taken.values()) == 80
    assert {taken[line] for line in LINES[:4]} == {20}


def test_more_lines_than_there_is_room_for_are_served_one_after_the_other() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank in range(1, 6):
        for line in LINES[:12]:
            waiting.submit(line, rank)
    look(roll, waiting)
    taken = Counter(line for _ in range(12) for line, _ in claim(roll, waiting, 5))
    assert {taken[line] for line in LINES[:12]} == {5}


def test_a_line_alone_is_claimed_in_the_order_of_submission() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank in (5, 3, 8, 1, 9, 2):
        waiting.submit(LINES[0], rank)
    look(roll, waiting)
    assert [each.rank for claimed in drain(roll, waiting, 2) for _, each in claimed] == [1, 2, 3, 5, 8, 9]


def test_a_queue_comes_before_the_next_and_a_small_priority_before_a_large_one() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank, line in enumerate(reversed(LINES)):
        waiting.submit(line, rank + 1)
    look(roll, waiting)
    order = [(line.queue, line.priority) for claimed in drain(roll, waiting) for line, _ in claimed]
    assert order == sorted(order)
    assert len(order) == len(LINES)


def test_what_has_waited_for_long_takes_turns_with_a_smaller_priority_and_never_comes_before_it() -> None:
    urgent, patient = LINES[0], LINES[12]
    assert (urgent.priority, patient.priority) == (0, 3)
    for waited, first_ten in [(10 * SECOND, {urgent: 10}), (61 * SECOND, {urgent: 5, patient: 5})]:
        roll, waiting = a_roll(ageing=10 * SECOND), Waiting()
        for line, since in [(urgent, timedelta(0)), (patient, waited)]:
            for _ in range(20):
                waiting.submit(line, rank_at(NOW - since))
        look(roll, waiting)
        assert Counter(line for _ in range(5) for line, _ in claim(roll, waiting, 2)) == first_ten


def test_lines_that_are_skipped_are_passed_over_and_keep_what_waits() -> None:
    held: set[Line] = {LINES[0], LINES[2]}
    roll, waiting = a_roll(skips=held.__contains__), Waiting()
    for line in LINES[:3]:
        waiting.submit(line, 1)
    look(roll, waiting)
    assert [line for line, _ in claim(roll, waiting, 4)] == [LINES[1]]
    assert not claim(roll, waiting, 4)
    held.clear()
    assert {line for line, _ in claim(roll, waiting, 4)} == {LINES[0], LINES[2]}


def test_what_comes_late_is_claimed_by_its_id_and_the_line_is_read_from_where_it_was() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank in range(100, 110):
        waiting.submit(LINES[0], rank)
    look(roll, waiting)
    claim(roll, waiting, 3)
    claim(roll, waiting, 3)
    late = waiting.submit(LINES[0], 7)
    tell(roll, LINES[0], late, named=True)
    choice = roll.choose(3)
    assert choice.named == [late]
    [stretch] = choice.stretches
    assert stretch.since == 103


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("named", [False, True])
def test_what_is_told_of_while_a_line_is_read_is_claimed_although_what_was_found_stands_behind_it(
    limit: int, named: bool
) -> None:
    line = LINES[0]
    roll, waiting = a_roll(), Waiting()
    tell(roll, line, waiting.submit(line, 10), named=False)
    claim_apart(roll, waiting, 1)
    waiting.submit(line, 20)
    claim_apart(
        roll,
        waiting,
        limit,
        answering=lambda: tell(roll, line, waiting.submit(line, 15), named=named),
    )
    assert [each.rank for _, each in claim_apart(roll, waiting, limit)] == [15]


def test_a_line_that_is_told_of_without_pause_is_read_from_where_it_was_all_the_same() -> None:
    line = LINES[0]
    roll, waiting = a_roll(), Waiting()
    tell(roll, line, waiting.submit(line, 1), named=False)
    for rank in range(2, 10):
        later = waiting.submit(line, rank)
        claim_apart(roll, waiting, 1, answering=partial(tell, roll, line, later, named=True))
    [stretch] = roll.choose(1).stretches
    assert stretch.since == 8


def test_where_many_organizations_wait_their_heads_are_claimed_without_reading() -> None:
    roll, waiting = a_roll(), Waiting()
    many = [Line("generation", "first", 0, f"organization-{number}") for number in range(400)]
    for line in many:
        waiting.submit(line, 1)
    look(roll, waiting)
    choice = roll.choose(64)
    assert (len(choice.named), choice.stretches) == (64, [])
    waiting.claim(roll.found(choice, []))
    assert sum(len(claimed) for claimed in drain(roll, waiting, 64)) == 336


def test_what_was_read_for_what_others_have_claimed_meanwhile_is_not_forgotten() -> None:
    roll, waiting = a_roll(), Waiting()
    for rank in range(1, 12):
        waiting.submit(LINES[0], rank)
    look(roll, waiting)
    waiting.claim(waiting.first(LINES[0], 1))
    assert [each.rank for _, each in claim(roll, waiting, 10)] == [*range(2, 11)]
    assert [each.rank for _, each in claim(roll, waiting, 10)] == [11]


def test_what_others_have_claimed_is_not_tried() -> None:
    roll, waiting = a_roll(), Waiting()
    candidate = waiting.submit(LINES[0], 1)
    tell(roll, LINES[0], candidate, named=True)
    roll.taken(candidate.id)
    assert not roll
    assert not roll.choose(1)


def test_what_waits_in_a_queue_of_others_is_none_of_its_business() -> None:
    roll = a_roll()
    roll.tell(Line("generation", "slow", 0, "organization"), 1, "c")
    assert not roll
