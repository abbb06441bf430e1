"""The parameters of a list: what is wrong is named, and nothing unknown is passed over."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest
from starlette.datastructures import QueryParams

from agent_service.api.list_query import list_extra, read_list_query
from agent_service.api.problems import HttpProblem
from agent_service.domain.listing import RequestFilter
from agent_service.domain.request import RequestStatus

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_nothing_asked_is_the_newest_of_all() -> None:
    query = read_list_query(QueryParams(""))
    assert (query.where, query.after, query.limit) == (RequestFilter(), None, 50)


def test_everything_can_be_asked_at_once() -> None:
    asked = (
        "status=failed&status=cancelled&service=analysis&metadata.order=4711&metadata.paid=true"
        "&created_after=2026-01-31T12:00:00Z&created_before=2026-01-31T14:00:00.5%2B02:00"
        "&user_id=ann&correlation_id=c%201&limit=7&after=x"
    )
    query = read_list_query(QueryParams(asked))
    assert query.where == RequestFilter(
        statuses=frozenset({RequestStatus.FAILED, RequestStatus.CANCELLED}),
        service="analysis",
        metadata={"order": "4711", "paid": "true"},
        created_after=NOON,
        created_before=NOON.replace(microsecond=500_000),
        user_id="ann",
        correlation_id="c 1",
    )
    assert (query.after, query.limit) == ("x", 7)
    following = dict(parse_qsl(query.next("y")))
    assert following == {**dict(parse_qsl(asked)), "after": "y"}


@pytest.mark.parametrize(
    "text", ["2026-01-31t13:00:00+01:00", "2026-01-31T13:00:00%2B01:00", "2026-01-31 12:00:00z"]
)
def test_a_moment_is_read_as_people_write_it(text: str) -> None:
    assert read_list_query(QueryParams(f"created_after={text}")).where.created_after == NOON


@pytest.mark.parametrize(
    ("asked", "name", "says"),
    [
        ("limit=0", "limit", "1 to 200"),
        ("limit=201", "limit", "1 to 200"),
        ("limit=ten", "limit", "1 to 200"),
        ("limit=", "limit", "1 to 200"),
        ("limit=1&limit=2", "limit", "once"),
        ("after=a&after=b", "after", "once"),
        ("status=done", "status", "accepted, running, completed, failed, cancelled"),
        ("service=Analysis", "service", "name of a service"),
        ("created_after=yesterday", "created_after", "RFC 3339"),
        ("created_after=2026-01-31", "created_after", "RFC 3339"),
        ("created_after=2026-01-31T12:00:00", "created_after", "RFC 3339"),
        ("created_before=2026-02-31T12:00:00Z", "created_before", "RFC 3339"),
        ("created_before=0001-01-01T00:00:00%2B01:00", "created_before", "RFC 3339"),
        ("created_before=0000-01-01T00:00:00Z", "created_before", "RFC 3339"),
        ("user_id=", "user_id", "1 to 255"),
        (f"correlation_id={'x' * 256}", "correlation_id", "1 to 255"),
        ("metadata.=1", "metadata.", "name a field"),
        ("metadata.a.b=1", "metadata.a.b", "without dots"),
        ("metadata.$where=1", "metadata.$where", "without $"),
        ("metadata.a%00=1", "metadata.a\0", "name a field"),
        ("metadata.a=1&metadata.a=2", "metadata.a", "once"),
        ("&".join(f"metadata.a{number}=1" for number in range(11)), "metadata.", "at most 10"),
        ("stauts=failed", "stauts", 'did you mean "status"?'),
        ("metadata=1", "metadata", "no such parameter"),
        ("a/b~=1", "a~1b~0", "no such parameter"),
        ("limit[$gt]=1", "limit[$gt]", "no such parameter"),
    ],
)
def test_what_is_wrong_is_named(asked: str, name: str, says: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        read_list_query(QueryParams(asked))
    problem = caught.value.problem
    assert (problem.status, problem.code) == (422, "invalid_parameter")
    assert any(error.pointer == f"/query/{name}" and says in error.detail for error in problem.errors)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(HttpProblem) as caught:
        read_list_query(QueryParams("limit=0&status=done&colour=red"))
    pointers = [error.pointer for error in caught.value.problem.errors]
    assert pointers == ["/query/status", "/query/limit", "/query/colour"]


def test_every_parameter_of_the_document_is_read() -> None:
    names = {parameter["name"] for parameter in list_extra()["parameters"]}
    with pytest.raises(HttpProblem) as caught:
        read_list_query(QueryParams("&".join(f"{name}=!&{name}=!" for name in names) + "&unknown=1"))
    unknown = [e.pointer for e in caught.value.problem.errors if "no such parameter" in e.detail]
    assert unknown == ["/query/unknown"]
