"""Shapes: what is right passes, what is wrong is named by its field and its type, and never by its value."""

from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from agent_service.domain.errors import UndecodableDocument
from agent_service.store.documents import context_document, context_of, request_document, request_of
from agent_service.store.shapes import MOST_COUNTED
from agent_service.store.stored_json import NotJsonError, is_json, json_object_of, json_of
from agent_service.store.stored_shapes import CONTEXT, REQUEST
from tests.support.contexts import NOW, a_context, a_request

SECRET = "sk-very-secret"
LEASE = {"token": "t", "worker": "w", "expires_at": NOW}
LINE = {
    "attempt": 1,
    "token": "t",
    "worker": "w",
    "started_at": NOW,
    "ended_at": NOW,
    "outcome": "failed",
    "chunks": 0,
    "error": None,
    "run_at": None,
}


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("run_at", SECRET, "run_at is string and should be date"),
        ("run_at", DatetimeMS(2**60), "run_at is date outside of the years 1 to 9999 and should be date"),
        ("attempt", True, "attempt is bool"),
        ("attempt", 1.0, "attempt is double"),
        ("tries", Int64(MOST_COUNTED + 1), "tries is number out of range"),
        ("tries", -1, "tries is number out of range"),
        ("history", None, "history is null"),
        ("history", [LINE, {**LINE, "outcome": SECRET}], "history.1.outcome is string and should be one of"),
        ("history", [SECRET], "history.0 is string and should be object"),
        ("waiting_on", ["a", 5], "waiting_on.1 is int and should be string"),
        ("lease", {**LEASE, "expires_at": SECRET}, "lease.expires_at is string"),
        ("lease", [LEASE], "lease is array"),
        ("status", SECRET, "status is string and should be one of blocked, "),
        ("input", {"a": [ObjectId()]}, "input is object with something else in it"),
        ("metadata", SECRET, "metadata is string and should be object or null"),
        ("usage", Decimal128("1"), "usage is decimal"),
        ("trace", {"traceparent": 5}, "trace.traceparent is int"),
    ],
)
def test_a_wrong_field_is_named_with_its_type_and_without_its_value(
    field: str, value: Any, found: str
) -> None:
    document = context_document(a_context()) | {field: value}
    with pytest.raises(UndecodableDocument) as raised:
        context_of(document)
    assert found in str(raised.value)
    assert SECRET not in str(raised.value)


def test_what_is_right_passes_again_and_again_and_what_is_wrong_does_not_become_right() -> None:
    right = context_document(a_context()) | {"lease": LEASE, "history": [LINE]}
    for _ in range(3):
        assert context_of(right).history[0].token == "t"
        with pytest.raises(UndecodableDocument):
            context_of(right | {"rank": "first"})


def test_a_field_that_older_versions_did_not_write_may_be_missing() -> None:
    document = context_document(a_context())
    del document["leases_lost"], document["sole"], document["history"]
    assert context_of(document).leases_lost == 0


def test_a_request_with_a_step_of_a_wrong_type_is_refused() -> None:
    document = request_document(a_request())
    document["steps"][0]["after"] = [1]
    with pytest.raises(UndecodableDocument, match=r"steps\.0\.after\.0 is int and should be string"):
        request_of(document)


def test_neutral_values_make_a_document_that_can_be_decoded() -> None:
    wrong = {"run_at": 1, "tries": "x", "history": "x", "input": ObjectId(), "lease": 1, "metadata": [1]}
    document = context_document(a_context()) | wrong
    neutral = CONTEXT.neutral(document, NOW)
    assert neutral.keys() == wrong.keys()
    assert context_of(document | neutral).run_at == NOW


@pytest.mark.parametrize("shape", [CONTEXT, REQUEST])
def test_every_field_that_is_written_has_its_place_in_the_shape(shape: Any) -> None:
    written = context_document(a_context()) if shape is CONTEXT else request_document(a_request())
    assert written.keys() - shape.fields.keys() == set()
    bson.encode(shape.schema())


def test_stored_json_is_json_all_the_way_down() -> None:
    assert json_of(DBRef("a", "b")) == {"$ref": "a", "$id": "b"}
    assert json_object_of(None) == {}
    assert is_json({"a": [1, 2.5, None, True, "x"]})
    assert not is_json({"a": [ObjectId()]})
    with pytest.raises(NotJsonError, match="ObjectId"):
        json_of([ObjectId()])
