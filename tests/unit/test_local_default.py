"""The local default: a part for each address that is missing, and nothing else."""

import asyncio
import sys
from pathlib import Path

import httpx2
import pytest

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.local_default import LocalDefault, _Program, start_local_default
from agent_service.settings import Settings, load_settings

ELSEWHERE = "http://127.0.0.1:9"


def settings_without(missing: str, folder: Path, **values: str) -> Settings:
    environ = {
        "MONGODB_URI": "mongodb://127.0.0.1:9/",
        "GENERATION_BASE_URL": ELSEWHERE,
        "ANALYSIS_BASE_URL": ELSEWHERE,
        "COMMUNICATION_BASE_URL": ELSEWHERE,
        "AGENT_SERVICE_DATA": str(folder),
        **values,
    }
    del environ[missing]
    return load_settings(environ, env_file=None, secrets_folder=None)


async def answer_of(url: str, step_input: object) -> dict[str, object]:
    call = {
        "context_id": "r.s",
        "request_id": "r",
        "step": "s",
        "attempt": 1,
        "input": step_input,
        "metadata": {},
    }
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{url}/execute", json=call)
    assert answer.status_code == 200, answer.text
    output: dict[str, object] = answer.json()["output"]
    return output


async def test_what_has_an_address_stays_and_what_has_none_is_served(tmp_path: Path) -> None:
    settings = settings_without(
        "ANALYSIS_BASE_URL", tmp_path, ANALYSIS_API_KEY="k", ANALYSIS_PROTOCOL="openai"
    )
    async with start_local_default(settings) as local:
        found = local.settings.services
        assert found["generation"].base_url == ELSEWHERE
        assert local.settings.mongodb == settings.mongodb
        assert local.outbox is None
        analysis = found["analysis"]
        assert analysis.base_url is not None
        assert (analysis.protocol, analysis.api_key) == ("execute", None)
        output = await answer_of(analysis.base_url, {"task": "text_statistics", "text": "One two."})
        assert output["words"] == 2


@pytest.mark.parametrize("missing", ["ANALYSIS_BASE_URL", "COMMUNICATION_BASE_URL"])
async def test_a_local_part_answers_no_page_of_a_foreign_site(tmp_path: Path, missing: str) -> None:
    async with start_local_default(settings_without(missing, tmp_path)) as local:
        url = local.settings.services[missing.split("_")[0].lower()].base_url
        assert url is not None
        async with httpx2.AsyncClient(trust_env=False, base_url=url) as client:
            foreign = [
                await client.post("/execute", json={}, headers=headers)
                for headers in ({"Host": "evil.example.com"}, {"Origin": "http://evil.example.com"})
            ]
            own = await client.get("/healthz", headers={"Origin": "http://localhost:3000"})
    assert [(each.status_code, each.json()["code"]) for each in foreign] == [
        (421, "foreign_host"),
        (403, "foreign_origin"),
    ]
    assert own.status_code == 200


async def test_the_first_message_finds_its_outbox_in_the_data_folder(tmp_path: Path) -> None:
    settings = settings_without("COMMUNICATION_BASE_URL", tmp_path)
    async with start_local_default(settings) as local:
        url = local.settings.services["communication"].base_url
        assert url is not None
        message = {"channel": "email", "to": "a@example.org", "subject": "s", "body": "hello"}
        output = await answer_of(url, message)
        assert local.outbox == tmp_path / "outbox"
        assert Path(str(output["path"])).is_relative_to(local.outbox)


async def test_a_part_whose_package_is_missing_says_what_to_install_or_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "agent_service.local.analysis_service", raising=False)
    monkeypatch.delitem(sys.modules, "agent_service.local.sentiment", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "vaderSentiment"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vaderSentiment", None)
    with pytest.raises(LocalPartUnavailable, match=r"agent-service\[local\], or set ANALYSIS_BASE_URL"):
        async with start_local_default(settings_without("ANALYSIS_BASE_URL", tmp_path)):
            pass


async def test_a_program_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    local = LocalDefault(settings_without("ANALYSIS_BASE_URL", tmp_path))
    local._programs.append(_Program(name="the embedded MongoDB", is_running=lambda: False))
    async with asyncio.timeout(5):
        with pytest.raises(LocalPartUnavailable, match="the embedded MongoDB has ended"):
            await local.wait_until_broken()
