"""Entity tags: who has seen how a request stands is not told again."""

import httpx2
import pytest
from starlette.datastructures import Headers

from agent_service.api.conditional import entity_tag, is_known
from agent_service.context_manager import ContextManager
from agent_service.store import Store
from tests.support.api import SUBMISSION
from tests.support.hand_worker import work_off

TAG = entity_tag(b"a")


def if_none_match(*values: str) -> Headers:
    return Headers(raw=[(b"if-none-match", value.encode("latin-1")) for value in values])


def test_equal_bytes_alone_have_equal_tags() -> None:
    assert TAG == entity_tag(b"a") != entity_tag(b"b")
    assert TAG.startswith('"')
    assert TAG.endswith('"')


@pytest.mark.parametrize(
    "values",
    [
        ["*"],
        [" * "],
        [TAG],
        [f"W/{TAG}"],
        [f'"other", {TAG}'],
        [f'"a,b",W/"" ,, {TAG} ,'],
        ['"other"', TAG],
    ],
)
def test_a_condition_that_names_the_tag_is_met(values: list[str]) -> None:
    assert is_known(if_none_match(*values), TAG)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ['"other"'],
        [TAG.strip('"')],
        [f"w/{TAG}"],
        [f"*, {TAG}"],
        [f"x{TAG}"],
        [f"{TAG}{TAG}"],
        [f'"{TAG}"'],
        ['"' * 999],
    ],
)
def test_any_other_condition_is_not(values: list[str]) -> None:
    assert not is_known(if_none_match(*values), TAG)


async def test_a_request_that_stands_as_before_is_not_sent_again(
    api: httpx2.AsyncClient, store: Store
) -> None:
    path = (await api.post("/v1/requests", json=SUBMISSION)).headers["location"]
    shown = await api.get(path)
    tag = shown.headers["etag"]
    assert tag == entity_tag(shown.content)
    unchanged = await api.get(path, headers={"If-None-Match": f'W/"x", {tag}'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (unchanged.headers["etag"], unchanged.headers["retry-after"]) == (tag, "1")
    assert unchanged.headers["cache-control"] == "no-store"
    assert "content-type" not in unchanged.headers

    await work_off(ContextManager(store))
    changed = await api.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "completed")
    assert changed.headers["etag"] != tag
    assert "retry-after" not in changed.headers
    again = await api.get(path, headers={"If-None-Match": "*"})
    assert (again.status_code, again.headers["etag"]) == (304, changed.headers["etag"])


async def test_a_condition_does_not_hide_that_there_is_no_request(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/v1/requests/none", headers={"If-None-Match": "*"})).status_code == 404
