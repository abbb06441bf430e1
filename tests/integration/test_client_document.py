"""docs/client.md: every example runs, and prints what stands below it."""

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.client import AgentClient, SyncAgentClient
from agent_service.local.analysis_service import create_analysis_app
from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.workers.analysis_worker import AnalysisWorker
from tests.support.api import make_app
from tests.support.worker_tools import HandlerWorker, running

pytestmark = pytest.mark.harness

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "client.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", TEXT, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


async def say_hello(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    """What the language model of the document says."""
    for piece in ("Hello ", "there!"):
        await on_delta(piece)
    return BaseServiceAnswer(output={"text": "Hello there!"})


@pytest.fixture
async def address(store: Store) -> AsyncIterator[str]:
    """An API with a worker for generation, and one for analysis with its real service."""
    async with (
        serve(create_analysis_app()) as analysis,
        serve(make_app(store)) as api,
        running(HandlerWorker(store, say_hello), AnalysisWorker(store, base_url=analysis.base_url)),
    ):
        yield api.base_url


def printed_by(program: str) -> str:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile(program, str(DOCUMENT), "exec"), {"__name__": "__main__"})
    return written.getvalue()


def test_every_example_says_what_it_prints() -> None:
    assert len(EXAMPLES) == TEXT.count("```python") == 3


@pytest.mark.parametrize(("program", "output"), EXAMPLES)
async def test_an_example_prints_what_stands_below_it(address: str, program: str, output: str) -> None:
    assert ADDRESS in program
    assert await asyncio.to_thread(printed_by, program.replace(ADDRESS, address)) == output


@pytest.mark.parametrize("kind", [AgentClient, SyncAgentClient])
def test_every_method_is_in_the_document(kind: Any) -> None:
    methods = {name for name in vars(kind) if not name.startswith("_")} - {"close", "ready"}
    assert {name for name in methods if f"`{name}`" not in TEXT} == set()
