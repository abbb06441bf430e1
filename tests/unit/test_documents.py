"""Documents: whatever a request or a context holds comes back from BSON as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson.codec_options import CodecOptions
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.context_manager import new_context
from agent_service.domain.context import (
    AttemptOutcome,
    AttemptRecord,
    Context,
    ContextError,
    ContextStatus,
    Lease,
)
from agent_service.domain.json_value import find_unstorable
from agent_service.domain.request import Caller, Request, RequestStatus, Step, Submission
from agent_service.store.documents import (
    SCHEMA,
    context_document,
    context_of,
    record_document,
    record_of_document,
    request_document,
    request_of,
)
from agent_service.store.planned_document import planned_document
from tests.support.contexts import a_context, a_request

AWARE: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict, tz_aware=True, tzinfo=UTC)
NAIVE: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = words.filter(lambda text: "\0" not in text)
small = st.integers(0, 100)
integers = st.integers(-(2**63), 2**63 - 1)
keys = names | st.sampled_from(["$ref", "$id", "$set", "a.b", "", "_id"])
#: What a BSON decoder takes for something else.
references = st.fixed_dictionaries({"$ref": words, "$id": words | st.none()}, optional={"type": words})
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | words
json = st.recursive(
    scalars | references, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
json_objects = st.dictionaries(keys, json, max_size=4) | references
dates = st.integers(-(10**12), 4 * 10**12).map(
    lambda milliseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
maybe_dates = st.none() | dates
callers = st.builds(
    Caller,
    organization_id=words,
    user_id=st.none() | words,
    correlation_id=st.none() | words,
    traceparent=st.none() | words.filter(bool),
)
errors = st.builds(ContextError, code=words, message=words, retryable=st.booleans())
leases = st.builds(Lease, token=words, worker=words, expires_at=dates)
records = st.builds(
    AttemptRecord,
    attempt=small,
    token=words,
    worker=words,
    started_at=dates,
    ended_at=dates,
    outcome=st.sampled_from(AttemptOutcome),
    chunks=small,
    error=st.none() | errors,
    run_at=maybe_dates,
)
steps = st.builds(
    Step,
    name=words,
    service=words,
    input=json,
    after=st.lists(words, max_size=3).map(tuple),
    queue=words,
    max_attempts=small,
)
contexts = st.builds(
    Context,
    id=words,
    request_id=words,
    step=words,
    service=words,
    queue=words,
    caller=callers,
    status=st.sampled_from(ContextStatus),
    priority=small,
    rank=integers,
    run_at=dates,
    waiting_on=st.lists(words, max_size=3).map(tuple),
    input=json,
    metadata=json_objects,
    idempotency_key=words,
    attempt=small,
    tries=small,
    max_attempts=small,
    leases_lost=small,
    cancel_requested=st.booleans(),
    output=json,
    usage=st.none() | json_objects,
    error=st.none() | errors,
    settled=st.none() | st.booleans(),
    created_at=dates,
    deadline_at=dates,
    released_at=maybe_dates,
    finished_at=maybe_dates,
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request whose deadline is what its submission says."""
    created_at, seconds = draw(dates), draw(st.integers(1, 10**6))
    deadline = timedelta(seconds=seconds)
    submission = st.builds(
        Submission,
        steps=st.lists(steps, min_size=1, max_size=3).map(tuple),
        variables=json_objects,
        metadata=json_objects,
        priority=small,
        deadline=st.just(deadline),
    )
    return Request(
        id=draw(words),
        caller=draw(callers),
        submission=draw(submission),
        status=draw(st.sampled_from(RequestStatus)),
        planned=draw(st.booleans()),
        created_at=created_at,
        deadline_at=created_at + deadline,
        idempotency_key=draw(st.none() | words),
        fingerprint=draw(words),
        cancel_requested=draw(st.booleans()),
        retry_of=draw(st.none() | words),
        reused=draw(st.lists(words, max_size=3).map(tuple)),
        finished_at=draw(maybe_dates),
        expires_at=draw(maybe_dates),
    )


def through_bson(document: dict[str, Any], codec: CodecOptions[dict[str, Any]] = AWARE) -> dict[str, Any]:
    return bson.decode(bson.encode(document), codec)


@given(requests())
@settings(deadline=None)
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    assert request_of(through_bson(request_document(request))) == request


@given(requests())
@settings(deadline=None)
def test_a_context_is_hardly_larger_than_its_request(request: Request) -> None:
    """So a request that can be stored, and is acknowledged, can have its contexts stored."""
    size = len(bson.encode(request_document(request)))
    for step in request.submission.steps:
        context = new_context(request, step)
        # Its own fields, and three times the id.
        assert len(bson.encode(context_document(context))) < size + 1_000 + 3 * len(context.id.encode())


@given(requests())
@settings(deadline=None)
def test_a_planned_context_has_the_document_of_a_new_one(request: Request) -> None:
    for step in request.submission.steps:
        document = context_document(new_context(request, step))
        assert list(planned_document(request, step).items()) == list(document.items())


@given(contexts)
@settings(deadline=None)
def test_anew_context_comes_back_as_it_was(context: Context) -> None:
    assert context_of(through_bson(context_document(context))) == context


@given(
    contexts,
    st.none() | leases,
    st.lists(records, max_size=3),
    maybe_dates,
    maybe_dates,
    st.sampled_from([AWARE, NAIVE]),
)
@settings(deadline=None)
def test_what_attempts_leave_in_a_context_is_read_however_its_times_are_decoded(
    context: Context,
    lease: Lease | None,
    history: list[AttemptRecord],
    started_at: datetime | None,
    expires_at: datetime | None,
    codec: CodecOptions[dict[str, Any]],
) -> None:
    document = context_document(context) | {
        "lease": lease and {"token": lease.token, "worker": lease.worker, "expires_at": lease.expires_at},
        "history": [record_document(record) for record in history],
        "started_at": started_at,
        "expires_at": expires_at,
    }
    assert context_of(through_bson(document, codec)) == replace(
        context, lease=lease, history=tuple(history), started_at=started_at, expires_at=expires_at
    )


@given(records)
@settings(deadline=None)
def test_a_line_of_the_history_comes_back_as_it_was(record: AttemptRecord) -> None:
    assert record_of_document(through_bson(record_document(record))) == record


@given(json)
@settings(deadline=None)
def test_what_the_documents_hold_here_is_what_a_submission_may_hold(value: Any) -> None:
    assert not list(find_unstorable(value))


def test_the_fields_are_those_that_the_design_promises() -> None:
    assert {"_id", "schema", "request_id", "step", "service", "queue", "organization_id", "user_id",
            "correlation_id", "status", "priority", "rank", "run_at", "waiting_on", "input",
            "idempotency_key", "attempt", "tries", "max_attempts", "lease", "cancel_requested", "output",
            "usage", "error", "history", "settled", "created_at", "started_at", "finished_at",
            "expires_at"} <= context_document(a_context()).keys()  # fmt: skip
    assert {"_id", "schema", "organization_id", "user_id", "correlation_id", "idempotency_key",
            "fingerprint", "status", "planned", "steps", "variables", "metadata", "priority", "retry_of",
            "cancel_requested", "trace", "created_at", "deadline_at", "finished_at", "expires_at"
            } <= request_document(a_request(idempotency_key="key")).keys()  # fmt: skip
    assert context_document(a_context())["schema"] == request_document(a_request())["schema"] == SCHEMA


def test_a_request_without_a_key_has_no_field_for_it() -> None:
    # A null would be in the unique index, once for each organization.
    assert "idempotency_key" not in request_document(a_request())


def test_a_context_of_which_large_fields_were_not_read_has_their_defaults() -> None:
    document = context_document(a_context(input="large", output="large", metadata={"large": 1}))
    for left_out in ("input", "output", "metadata"):
        del document[left_out]
    context = context_of(document)
    assert (context.input, context.output, context.metadata) == (None, None, {})
