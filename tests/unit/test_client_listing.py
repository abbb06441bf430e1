"""Lists: filters, pages and limits, against an API that keeps to the contract of `GET /v1/requests`."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent_service.client import StepSummary
from agent_service.domain.errors import BaseServiceRejected, InvalidSubmission
from tests.support.scripted_api import Script, answering

NUMBER = 250


class ListingApi:
    """Has so many requests, and cursors that say how many came before."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: Request) -> Response:
        parameters = dict(request.query_params)
        self.asked.append(parameters)
        begin, size = int(parameters.get("after", "0")), int(parameters["limit"])
        end = min(begin + size, NUMBER)
        found = [self.request(number) for number in range(begin, end)]
        return JSONResponse({"requests": found, "next": str(end) if end < NUMBER else None})

    @staticmethod
    def request(number: int) -> dict[str, Any]:
        return {
            "id": f"r{number}",
            "status": "completed",
            "steps": [{"name": "draft", "service": "generation"}],
            "created_at": "2026-01-31T12:00:00.000Z",
            "finished_at": None,
            "metadata": {"team": "blue"},
        }


async def test_a_list_goes_on_over_all_pages() -> None:
    api = ListingApi()
    async with answering(api) as client:
        found = [request async for request in client.list(status="completed")]
    assert [request.id for request in found] == [f"r{number}" for number in range(NUMBER)]
    assert found[0].steps == (StepSummary(name="draft", service="generation"),)
    assert found[0].created_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert [asked.get("after") for asked in api.asked] == [None, "100", "200"]
    assert {asked["status"] for asked in api.asked} == {"completed"}


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, ["1"]), (100, ["100"]), (130, ["100", "30"]), (999, ["100"] * 3)]
)
async def test_no_more_is_asked_for_than_is_wanted(limit: int, sizes: list[str]) -> None:
    api = ListingApi()
    async with answering(api) as client:
        found = [request.id async for request in client.list(limit=limit)]
    assert len(found) == min(limit, NUMBER)
    assert [asked["limit"] for asked in api.asked] == sizes


async def test_filters_are_sent_as_the_route_takes_them() -> None:
    api = ListingApi()
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    async with answering(api) as client:
        found = client.list(
            service="generation",
            metadata={"team": "a/b & c"},
            created_after=noon.astimezone(timezone(timedelta(hours=2))),
            created_before=noon + timedelta(milliseconds=1),
            limit=1,
        )
        assert len([request async for request in found]) == 1
    assert api.asked == [
        {
            "service": "generation",
            "metadata.team": "a/b & c",
            "created_after": "2026-01-31T12:00:00Z",
            "created_before": "2026-01-31T12:00:00.001000Z",
            "limit": "1",
        }
    ]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [({"created_after": datetime(2026, 1, 31)}, "/created_after"), ({"limit": 0}, "/limit")],  # noqa: DTZ001
)
async def test_a_filter_that_cannot_be_right_is_refused_before_anything_is_sent(
    wrong: dict[str, Any], pointer: str
) -> None:
    api = ListingApi()
    async with answering(api) as client:
        with pytest.raises(InvalidSubmission, match=pointer):
            await anext(client.list(**wrong))
    assert api.asked == []


async def test_a_list_that_turns_in_circles_is_an_error() -> None:
    page = JSONResponse({"requests": [], "next": "x"})
    async with answering(Script(page, page)) as client:
        with pytest.raises(BaseServiceRejected, match="where it began"):
            await anext(client.list())
