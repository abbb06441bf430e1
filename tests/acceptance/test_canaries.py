"""
Secrets and payloads turn up where they belong and nowhere else, however much is logged.

What is planted, and where each may turn up, stands in `tests/support/canaries.py`; here it is only planted,
in real processes that log at the level TRACE, and looked for.
"""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from agent_service.store import Store
from tests.support.api_keys import bearing, stored_key
from tests.support.base_service_behaviours import Behaviour, answer, events
from tests.support.base_service_stub import BaseServiceStub
from tests.support.canaries import BELONGS, Canaries, Place
from tests.support.canary_processes import CanaryProcesses
from tests.support.waiting import until
from tests.support.worker_tools import Raw, for_steps, trouble

pytestmark = pytest.mark.timeout(400)

#: A host that no name server knows.
NOWHERE = "hooks.example.invalid"
#: An error of MongoDB that passes, so that no client waits for a new primary.
REFUSED = 24


def settings(canaries: Canaries, uri: str, database: str, port: int) -> dict[str, str]:
    """The environment of the processes."""
    address = urlsplit(uri)
    password = canaries["the password of MongoDB"]
    query = f"{address.query}&authSource=admin" if address.query else "authSource=admin"
    leaky = {
        "local": canaries["a variable of a handler that raised"],
        "message": canaries["the message of what a handler raised"],
        "thread": canaries["a variable of a thread that raised"],
    }
    return {
        "MONGODB_URI": f"mongodb://{database}:{password}@{address.netloc}/?{query}",
        "MONGODB_DATABASE": database,
        "GENERATION_BASE_URL": f"http://127.0.0.1:{port}",
        "GENERATION_API_KEY": canaries["the API key of a base service"],
        "ANALYSIS_BASE_URL": f"http://ann:{canaries['the password in a base URL']}@127.0.0.1:{port}",
        "SMTP_PASSWORD": canaries["the password of the mail server"],
        "SMTP_HOST": "127.0.0.1",
        "SERVICES": "leaky,leaky_thread",
        "GENERATION_MAX_ATTEMPTS": "1",
        "LEAKY_MAX_ATTEMPTS": "1",
        "LEAKY_THREAD_MAX_ATTEMPTS": "1",
        "LEAKY_SECRETS": json.dumps(leaky),
        "API_PORT": "0",
        "MAX_BODY_BYTES": "20000",
        "CALLBACK_ALLOWED_HOSTS": NOWHERE,
        "CALLBACK_SECRET": f"whsec_{b64encode(canaries['the secret of callbacks'].encode()).decode()}",
        "LOG_LEVEL": "TRACE",
    }


def base_service(canaries: Canaries) -> Behaviour:
    """Answers of every kind, with canaries in all that can be in them."""
    header = {"X-Internal": canaries["a header of an answer"]}
    key, password = canaries["the API key of a base service"], canaries["the password in a base URL"]
    output, usage = canaries["an output"], {"note": canaries["usage"]}

    def refusal(secret: str, status: int) -> Behaviour:
        message = f"{canaries['the message of an error']}: {secret} is wrong"
        problem = {"detail": message, "debug": canaries["another member of an error"]}
        return answer(problem, status=status, headers=header)

    deltas = [{"delta": canaries["a streamed output"]}, {"output": "done"}]
    html = {"Content-Type": "text/html", **header}
    return for_steps(
        draft=answer({"output": output, "usage": usage}, headers=header),
        stream=events(*deltas),
        refused=refusal(key, 400),
        denied=refusal(password, 401),
        broken=answer(body=canaries["an answer that is no JSON"], headers=header),
        page=answer(body=f"<p>{canaries['an answer of another kind']}</p>", status=500, headers=html),
    )


def submissions(canaries: Canaries) -> list[dict[str, Any]]:
    """What is submitted: each step is a request of its own, so that none waits for another's end."""
    common = {
        "variables": {"word": canaries["a variable"]},
        "metadata": {"note": canaries["metadata"]},
        "callback": {"url": f"https://{NOWHERE}/{canaries['the address of a callback']}"},
    }
    given = {"text": canaries["the input of a step"], "word": "{{ vars.word }}"}
    steps = [
        *(("generation", name) for name in ("draft", "stream", "refused", "broken", "page")),
        ("analysis", "denied"),
        ("leaky", "raises"),
        ("leaky_thread", "raises"),
    ]
    return [
        {"steps": [{"name": name, "service": service, "input": given}], **common} for service, name in steps
    ]


def secret_headers(canaries: Canaries, api_key: str) -> dict[str, str]:
    """What callers send beside their bodies."""
    return {
        **bearing(api_key),
        "Cookie": f"session={canaries['Cookie']}",
        "X-Api-Key": canaries["X-Api-Key"],
        "X-User-Id": canaries["X-User-Id"],
        "Content-Type": "application/json",
    }


async def ask_in_vain(client: httpx2.AsyncClient, canaries: Canaries, raw: Raw) -> list[httpx2.Response]:
    """Calls that are refused, with canaries in what they are refused for."""
    bodies = [
        f'{{"service": {canaries["a body that is no JSON"]}',
        json.dumps({"service": "generation", "input": canaries["a body that is too large"] * 1_000}),
        json.dumps({"service": "generation", "input": 1, canaries["a name that is no field"]: 1}),
        json.dumps({"service": canaries["a service that is none"], "input": 1}),
    ]
    answers = [await client.post("/v1/requests", content=body) for body in bodies]
    refused = json.dumps({"service": "generation", "input": canaries["a body that MongoDB refused"]})
    async with trouble(raw, ["insert"], errorCode=REFUSED):
        answers.append(await client.post("/v1/requests", content=refused))
        answers.append(await client.post("/v1/requests:batch", content=f'{{"requests": [{refused}]}}'))
    no_key = bearing(canaries["an API key that is none"])
    answers += [await client.get(path, headers=no_key) for path in ("/v1/requests", "/metrics")]
    assert [found.status_code // 100 for found in answers] == [4, 4, 4, 4, 5, 5, 4, 4]
    return answers


async def submit_all(client: httpx2.AsyncClient, canaries: Canaries) -> list[str]:
    """Everything that an answer of the API says, once all requests have ended."""
    key = canaries["Idempotency-Key"]
    token, cursor = canaries["a token in the query"], canaries["Last-Event-ID"]
    answers: list[httpx2.Response] = []
    for number, submission in enumerate(submissions(canaries)):
        headers = {"Idempotency-Key": f"{key}-{number}"}
        taken = await client.post(f"/v1/requests?token={token}", json=submission, headers=headers)
        assert taken.status_code == 202, taken.text
        location = taken.headers["location"]
        answers += [taken, await client.get(f"{location}/events?token={token}")]
        answers.append(await client.get(location, params={"token": token}))
        answers.append(await client.get(f"{location}/events", headers={"Last-Event-ID": f"@0,{cursor}"}))
        assert answers[-2].json()["status"] in ("completed", "failed"), answers[-2].text
    answers += [await client.get(path) for path in ("/healthz", "/readyz", "/metrics", "/workers/stats")]
    return [f"{found.headers}\n{found.text}" for found in answers]


def run_commands(processes: CanaryProcesses, canaries: Canaries) -> None:
    """The commands that read settings, with good ones and with such that cannot be."""
    for command in ("doctor", "config show", "health", "services list", "requests redrive --dry-run"):
        processes.run(*command.split())
    processes.run("callbacks", "list")
    processes.run("purge", "--organization", "default")
    cut = f"mongodb://ann:aa/{canaries['the end of a password that breaks its address']}@db.example"
    no_address = f"postgres://ann:{canaries['a password in an address that is none']}@db.example"
    for command in ("doctor", "config show", "api", "worker generation"):
        name = command.split()
        processes.run(*name, MONGODB_URI=cut)
        assert processes.run(*name, MONGODB_URI=no_address) == 2
        processes.run(*name, MONGODB_URI=cut, GENERATION_BASE_URL=no_address)
    no_header = f"é {canaries['a key that is no header']}"
    assert processes.run("worker", "generation", GENERATION_API_KEY=no_header) != 0


@asynccontextmanager
async def mongodb_user(raw: Raw, canaries: Canaries) -> AsyncIterator[None]:
    """A user of MongoDB with a canary for a password, called like the database."""
    admin = raw.client.admin
    await admin.command("createUser", raw.name, pwd=canaries["the password of MongoDB"], roles=["root"])
    try:
        yield
    finally:
        await admin.command("dropUser", raw.name)


async def one_was_tried(raw: Raw) -> bool:
    """Whether a delivery of a callback has failed, and was logged and stored."""
    tried = {"service": "callback", "history.0": {"$exists": True}}
    return await raw.contexts.find_one(tried) is not None


async def all_documents(raw: Raw) -> str:
    """Everything that is in the database, as text."""
    names = await raw.list_collection_names()
    assert {"requests", "contexts", "events", "workers"} <= set(names)
    return "\n".join([repr(document) for name in names async for document in raw[name].find()])


@pytest.mark.parametrize("log_format", ["console", pytest.param("json", marks=pytest.mark.exhaustive)])
async def test_what_is_planted_turns_up_where_it_belongs_and_nowhere_else(
    store: Store, raw: Raw, mongodb_uri: str, tmp_path: Path, log_format: str
) -> None:
    _, api_key = await stored_key(store, "default")
    canaries = Canaries.hatch(api_key=api_key)
    async with BaseServiceStub() as stub, mongodb_user(raw, canaries):
        stub.behave(base_service(canaries))
        values = settings(canaries, mongodb_uri, raw.name, stub.port) | {"LOG_FORMAT": log_format}
        with CanaryProcesses(tmp_path, values) as processes:
            start = processes.start
            said, *_ = await asyncio.gather(
                asyncio.to_thread(start, "agent_service", "api", until="the API listens on"),
                asyncio.to_thread(start, "tests.support.leaky_worker", until="leaky_thread worker started"),
                *(
                    asyncio.to_thread(start, "agent_service", "worker", service, until="worker started")
                    for service in ("generation", "analysis", "callback")
                ),
            )
            found = re.search(r"the API listens on (\S+:\d+)", said)
            assert found is not None
            url, headers = f"http://{found[1]}", secret_headers(canaries, api_key)
            async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                answers = await submit_all(client, canaries)
                answers += [problem.text for problem in await ask_in_vain(client, canaries, raw)]
            was_tried: bool = await until(partial(one_was_tried, raw), seconds=60)
            assert was_tried
            documents = await all_documents(raw)
            await asyncio.to_thread(run_commands, processes, canaries)
    places = {
        Place.OUTPUT: processes.output,
        Place.ANSWERS: "\n".join(answers),
        Place.DOCUMENTS: documents,
        Place.ARGUMENTS: processes.arguments,
        Place.CALLS: "\n".join(f"{call.headers} {call.body!r}" for call in stub.calls),
    }
    assert "worker started" in processes.output
    assert "worker" in processes.arguments
    found_in = {(name, place) for place, text in places.items() for name in canaries.found_in(text)}
    belongs_in = {(name, place) for name, homes in BELONGS.items() for place in homes}
    assert sorted(found_in - belongs_in) == []
    # What is not found where it belongs was not planted.
    assert sorted(belongs_in - found_in) == []


def test_a_canary_is_found_also_inside_a_basic_authorization() -> None:
    canaries = Canaries.hatch()
    password = canaries["the password in a base URL"]
    for user in ("", "a", "an", "ann"):
        header = httpx2.BasicAuth(user, password)._auth_header
        assert password not in header
        assert canaries.found_in(header) == {"the password in a base URL"}
