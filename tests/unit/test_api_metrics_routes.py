"""What Prometheus scrapes."""

from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from agent_service.domain.errors import StoreUnavailable
from tests.support.api import SUBMISSION, calling, make_app, memory_store
from tests.support.fleets import a_sign


def parse_openmetrics(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = openmetrics_parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return families


async def test_a_scrape_is_in_the_format_that_was_asked_for() -> None:
    store = memory_store()
    await store.workers.report(a_sign(store))
    async with calling(make_app(store)) as api:
        await api.post("/v1/requests", json=SUBMISSION)
        await store.counters.tell()
        text = await api.get("/metrics")
        openmetrics = await api.get(
            "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0, text/plain;q=0.5"}
        )
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert text.headers["cache-control"] == "no-store"
    parsed = (text_string_to_metric_families(text.text), parse_openmetrics(openmetrics.text))
    for families in map(list, parsed):
        samples = {(one.name, one.labels.get("service")): one.value for f in families for one in f.samples}
        assert samples["agent_service_queue_ready", "generation"] == 1
        assert samples["agent_service_requests_submitted_total", "generation"] == 1
        assert samples["agent_service_sse_clients", None] == 0
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=new", "text/plain; version=", "a/b"]
)
async def test_a_format_that_nobody_knows_is_answered_with_one_that_everybody_does(accept: str) -> None:
    async with calling(make_app(memory_store())) as api:
        answer = await api.get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert "agent_service_mongodb_up 1.0" in answer.text


async def test_without_mongodb_the_process_still_tells_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory_store()

    async def unreachable(*args: object) -> None:
        raise StoreUnavailable("db-7.internal:27017 refused")

    async with calling(make_app(store)) as api:
        with monkeypatch.context() as patch:
            patch.setattr(store.workers, "seen_since", unreachable)
            answer = await api.get("/metrics")
        assert answer.status_code == 200
        assert "agent_service_mongodb_up 0.0" in answer.text
        assert "queue" not in answer.text
        assert "agent_service_sse_clients 0.0" in answer.text
        assert "agent_service_mongodb_up 1.0" in (await api.get("/metrics")).text


async def test_two_applications_in_one_process_count_apart() -> None:
    async with calling(make_app(memory_store())) as first, calling(make_app(memory_store())) as second:
        await first.get("/healthz")
        assert 'route="/healthz"' in (await first.get("/metrics")).text
        assert 'route="/healthz"' not in (await second.get("/metrics")).text
