"""docs/operations.md names the metrics that there are, with their labels, and no others."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent_service.domain.context import AttemptOutcome
from agent_service.telemetry.metrics import BOUNDS
from tests.support.api import SUBMISSION, calling, make_app, memory_store
from tests.support.fleets import a_sign

pytestmark = pytest.mark.harness

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(agent_service_\w+)` \| ([\w, ]*)\|", TEXT, flags=re.MULTILINE)
DOCUMENTED = {name: {label.strip() for label in labels.split(",") if label.strip()} for name, labels in ROWS}


async def exposed() -> dict[str, set[str]]:
    """The metrics that an API over some work exposes, each with its labels."""
    store = memory_store()
    await store.workers.report(a_sign(store))
    async with calling(make_app(store)) as api:
        await api.post("/v1/requests", json=SUBMISSION)
        store.counters.tally.of("generation", "default").ended(AttemptOutcome.COMPLETED, waited=1, took=1)
        await store.counters.tell()
        text = (await api.get("/metrics")).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("agent_service_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


async def test_every_metric_is_documented_with_its_labels_and_no_other_one() -> None:
    assert await exposed() == DOCUMENTED


def test_every_metric_that_the_text_speaks_of_is_in_the_table() -> None:
    assert set(re.findall(r"agent_service_\w+", TEXT)) == set(DOCUMENTED)


def test_the_buckets_are_those_that_the_text_names() -> None:
    named = re.search(r"Histograms have the buckets ([\d., and\s]+) s\.", TEXT)
    assert named is not None
    assert [float(bound) for bound in re.findall(r"[\d.]+\d|\d", named[1])] == list(BOUNDS)
