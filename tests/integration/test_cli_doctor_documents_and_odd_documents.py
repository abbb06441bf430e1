"""What the doctor says of documents that no loop can find."""

from pathlib import Path

from bson.datetime_ms import DatetimeMS

from agent_service.cli.doctor_documents import judge_documents
from agent_service.store import Store
from agent_service.store.odd_documents import find_odd_documents
from tests.support.contexts import a_context, a_request
from tests.support.worker_tools import Raw


async def test_the_doctor_names_what_has_a_wrong_type_and_never_its_value(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    contexts, request = [a_context() for _ in range(8)], a_request()
    await store.contexts.insert(contexts)
    assert await store.requests.insert(request)
    assert [each.count for each in await find_odd_documents(mongodb_uri, database=database_name)] == [0] * 5
    ids = [context.id for context in contexts]
    await raw.contexts.update_many({"_id": {"$in": ids[:6]}}, {"$set": {"service": 5}})
    await raw.contexts.update_one({"_id": ids[6]}, {"$set": {"run_at": DatetimeMS(2**60)}})
    await raw.requests.update_one({"_id": request.id}, {"$set": {"deadline_at": "a secret"}})
    found = judge_documents(await find_odd_documents(mongodb_uri, database=database_name))
    of_contexts, of_requests = sorted(found, key=lambda finding: "of requests" in finding.text)
    assert of_contexts.text.startswith("7 documents of contexts have a field of a wrong type: ")
    assert of_contexts.text.count("service is int and should be string") == 5
    assert f"{request.id}: deadline_at is string and should be date" in of_requests.text
    assert "a secret" not in of_requests.text
    assert of_contexts.remedy
    assert of_requests.remedy


def test_a_database_without_any_is_fine() -> None:
    (finding,) = judge_documents([])
    assert finding.remedy is None
