"""How the fleet is shown, and that the examples of the document are such answers."""

import json
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent_service.api.fleet_answer import health_answer, statistics_answer
from agent_service.api.fleet_examples import HEALTHY, STATISTICS, UNHEALTHY
from agent_service.domain.context import AttemptOutcome
from agent_service.domain.json_value import JsonObject
from agent_service.domain.service_state import Breaker, Hold
from agent_service.insights import (
    EndedLately,
    FleetHealth,
    FleetStatistics,
    Latency,
    QueueStatistics,
    ServiceStatistics,
    UnservedQueue,
)
from tests.support.api import calling, make_app, memory_store
from tests.support.contexts import NOW, SECOND
from tests.support.fleets import a_sign_at

WORKER = a_sign_at(NOW, id="w", started_at=NOW - SECOND)
QUEUE = QueueStatistics(
    queue="default",
    pending=1,
    scheduled=2,
    blocked=3,
    running=4,
    oldest_pending=timedelta(seconds=1.23456),
    ended=(EndedLately(window=timedelta(minutes=1), completed=5, failed=6, cancelled=7),),
    sampled=5,
    queue_wait=Latency(p50=SECOND, p95=2 * SECOND),
    duration=None,
    attempts={AttemptOutcome.LEASE_LOST: 8},
)


def shown(at: Any) -> str:
    return str(at.isoformat(timespec="milliseconds")).replace("+00:00", "Z")


def test_health_tells_who_lives_and_what_is_unserved() -> None:
    unserved = UnservedQueue(service="analysis", queue="night", reason="nobody is there")
    answer = json.loads(health_answer(FleetHealth(workers=(WORKER,), unserved=(unserved,))).to_json())
    assert answer == {
        "status": "unhealthy",
        "workers_online": 1,
        "workers": [{"id": "w", "service": "generation", "queues": ["default"], "seen_at": shown(NOW)}],
        "unserved": [{"service": "analysis", "queue": "night", "reason": "nobody is there"}],
    }
    assert health_answer(FleetHealth(workers=(), unserved=())).status == "healthy"


def test_statistics_are_told_in_seconds_and_moments() -> None:
    hold = Hold(name="paused", reason="new model", since=NOW, until=None)
    service = ServiceStatistics(
        service="generation", may_be_called=False, holds=(hold,), breaker=Breaker(), queues=(QUEUE,)
    )
    statistics = FleetStatistics(at=NOW, services=(service,), workers=(WORKER,), counters={})
    answer = json.loads(statistics_answer(statistics).to_json())
    assert answer["at"] == shown(NOW)
    assert answer["services"] == [
        {
            "service": "generation",
            "may_be_called": False,
            "breaker": "closed",
            "holds": [{"name": "paused", "reason": "new model", "since": shown(NOW), "until": None}],
            "queues": [
                {
                    "queue": "default",
                    "pending": 1,
                    "scheduled": 2,
                    "blocked": 3,
                    "running": 4,
                    "oldest_pending_seconds": 1.235,
                    "ended": [{"window_seconds": 60.0, "completed": 5, "failed": 6, "cancelled": 7}],
                    "sampled": 5,
                    "queue_wait_seconds": {"p50": 1.0, "p95": 2.0},
                    "duration_seconds": None,
                    "attempts": {"lease_lost": 8},
                }
            ],
        }
    ]
    assert answer["workers"] == [
        {
            "id": "w",
            "service": "generation",
            "queues": ["default"],
            "host": "host",
            "pid": 7,
            "version": "1.2.3",
            "concurrency": 10,
            "running": 3,
            "loop_lag_seconds": 0.25,
            "trouble": "",
            "started_at": shown(NOW - SECOND),
            "seen_at": shown(NOW),
        }
    ]


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ("FleetHealthAnswer", HEALTHY),
        ("FleetHealthAnswer", UNHEALTHY),
        ("FleetStatisticsAnswer", STATISTICS),
    ],
)
async def test_the_examples_are_as_the_document_says(schema: str, example: JsonObject) -> None:
    async with calling(make_app(memory_store())) as api:
        document = (await api.get("/openapi.json")).json()
    whole = {**document, "$ref": f"#/components/schemas/{schema}"}
    Draft202012Validator(whole).validate(example)
    properties = document["components"]["schemas"][schema]["properties"]
    assert set(properties) == set(example)
