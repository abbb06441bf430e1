"""Callbacks at the API: refused with a pointer and a reason, or taken and not spoken of."""

from agent_service.api.app import create_app
from tests.support.api import MAX_BODY_BYTES, assert_problem, calling, make_app, memory_store
from tests.support.callbacks import CALLBACK, requests_with_callbacks

BODY = {"service": "analysis", "input": {}}


async def test_where_no_host_is_allowed_a_callback_is_refused_and_the_variable_named() -> None:
    async with calling(make_app(memory_store())) as api:
        answer = await api.post("/v1/requests", json={**BODY, "callback": CALLBACK})
    [error] = assert_problem(answer, 422, "invalid_submission")["errors"]
    assert error["pointer"] == "/callback/url"
    assert "CALLBACK_ALLOWED_HOSTS" in error["detail"]


async def test_a_callback_is_taken_and_makes_no_difference_to_the_answer() -> None:
    store = memory_store()
    app = create_app(store, requests_with_callbacks(store), max_body_bytes=MAX_BODY_BYTES)
    async with calling(app) as api:
        plain = (await api.post("/v1/requests", json=BODY)).json()
        taken = await api.post("/v1/requests", json={**BODY, "callback": CALLBACK})
        assert taken.status_code == 202
        assert taken.json().keys() == plain.keys()
        assert [step["name"] for step in taken.json()["steps"]] == ["analysis"]
        mixed = {"requests": [{**BODY, "callback": CALLBACK}, {**BODY, "callback": {"url": "http://x"}}]}
        results = (await api.post("/v1/requests:batch", json=mixed)).json()["results"]
    assert "id" in results[0]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/callback/url"


async def test_under_one_key_a_callback_makes_another_body() -> None:
    store = memory_store()
    app = create_app(store, requests_with_callbacks(store), max_body_bytes=MAX_BODY_BYTES)
    headers = {"Idempotency-Key": '"k"'}
    async with calling(app) as api:
        first = await api.post("/v1/requests", json={**BODY, "callback": CALLBACK}, headers=headers)
        again = await api.post("/v1/requests", json={**BODY, "callback": CALLBACK}, headers=headers)
        assert again.json()["id"] == first.json()["id"]
        other = await api.post("/v1/requests", json=BODY, headers=headers)
        assert other.status_code == 422
