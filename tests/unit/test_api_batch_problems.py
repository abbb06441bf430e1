"""Problems of a whole batch: bounded together, shared alike, and counted where they are left out."""

from http import HTTPStatus

from agent_service.api.batch_problems import bounded
from agent_service.api.problems import Problem
from agent_service.domain.errors import FieldProblem


def problem(errors: int) -> Problem:
    return Problem(
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        code="invalid_submission",
        detail="wrong",
        errors=tuple(FieldProblem(pointer=f"/{number:02}", detail="x") for number in range(errors)),
    )


#: {"pointer": "/00", "detail": "x"}
SIZE = 33


def kept(problems: list[Problem]) -> list[tuple[int, int]]:
    return [(len(each.errors), each.errors_left_out) for each in problems]


def test_what_fits_stays_as_it_is() -> None:
    problems = [problem(3), problem(0), problem(1)]
    assert bounded(problems) == problems


def test_each_has_an_equal_share_and_what_one_leaves_goes_to_those_behind_it() -> None:
    problems = [problem(10), problem(1), problem(10)]
    assert kept(bounded(problems, most_bytes=9 * SIZE)) == [(3, 7), (1, 0), (5, 5)]


def test_the_first_errors_are_kept_and_the_others_counted() -> None:
    (shortened,) = bounded([problem(10)], most_bytes=4 * SIZE)
    assert shortened.errors == problem(4).errors
    assert shortened.errors_left_out == 6


def test_where_nothing_fits_everything_is_counted() -> None:
    assert kept(bounded([problem(2), problem(2)], most_bytes=SIZE)) == [(0, 2), (1, 1)]
