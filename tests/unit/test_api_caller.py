"""Who the caller of a call is, and what each line of the log says of it meanwhile."""

from types import SimpleNamespace

import pytest
from fastapi import Request as HttpRequest

from agent_service.api.caller import CallerWith, log_fields
from agent_service.api.problems import HttpProblem
from agent_service.domain.api_key import Scope
from agent_service.domain.request import Caller
from agent_service.keys.key_ring import KeyRing
from agent_service.store import Store
from tests.support.api import memory_store
from tests.support.api_keys import bearing, stored_key

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def call(*headers: tuple[str, str | bytes], store: Store | None = None, **path: str) -> HttpRequest:
    raw = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    ]
    app = SimpleNamespace(state=SimpleNamespace(keys=KeyRing(store or memory_store())))
    return HttpRequest({"type": "http", "headers": raw, "app": app, "path_params": path})


async def caller_of(call: HttpRequest) -> Caller:
    return await CallerWith(Scope.READ)(call, None)


async def test_without_headers_the_caller_is_the_default_organization() -> None:
    assert await caller_of(call()) == Caller(organization_id="default")


async def test_ids_may_be_any_printable_text() -> None:
    caller = await caller_of(
        call(("X-User-Id", "Jörg ☃"), ("X-Correlation-Id", "c" * 255), ("traceparent", TRACE))
    )
    assert caller == Caller(user_id="Jörg ☃", correlation_id="c" * 255, traceparent=TRACE)


async def test_an_empty_id_is_none() -> None:
    assert (await caller_of(call(("X-User-Id", "")))).user_id is None


@pytest.mark.parametrize("value", ["u" * 256, "a\tb", "a\x7fb", "a\u202eb", b"\xff"])
@pytest.mark.parametrize("name", ["X-User-Id", "X-Correlation-Id"])
async def test_ids_that_are_long_or_not_plain_text_are_refused(name: str, value: str | bytes) -> None:
    with pytest.raises(HttpProblem) as caught:
        await caller_of(call((name, value)))
    assert (caught.value.problem.status, caught.value.problem.code) == (400, "invalid_header")
    assert name in caught.value.problem.detail


async def test_two_ids_are_refused() -> None:
    with pytest.raises(HttpProblem):
        await caller_of(call(("X-User-Id", "a"), ("X-User-Id", "b")))


@pytest.mark.parametrize(
    "value", ["", "00", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01", TRACE.upper()]
)
async def test_a_trace_that_cannot_be_read_is_left_out(value: str) -> None:
    assert (await caller_of(call(("traceparent", value)))).traceparent is None


async def test_no_header_chooses_the_organization() -> None:
    assert (await caller_of(call(("X-Organization-Id", "other")))).organization_id == "default"


async def test_the_key_chooses_the_organization_and_nothing_else_does() -> None:
    store = memory_store()
    _, text = await stored_key(store, "acme")
    headers = [*bearing(text).items(), ("X-Organization-Id", "other")]
    assert (await caller_of(call(*headers, store=store))).organization_id == "acme"


async def test_what_is_logged_of_a_caller_says_whose_call_it_is() -> None:
    named = call(("X-Correlation-Id", "c-1"), request_id="r-1")
    fields = {"organization_id": "default", "correlation_id": "c-1", "request_id": "r-1"}
    assert log_fields(named, await caller_of(named)) == fields
    assert log_fields(call(), Caller()) == {"organization_id": "default"}
