"""Callbacks: which addresses they may go to, and the context that delivers one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent_service.domain.callback import (
    CALLBACK_LIFE,
    LONGEST_CALLBACK_URL,
    NO_CALLBACKS,
    CallbackRules,
    EndedRequest,
    PortRange,
    callback_context,
    callback_id,
    delivery_number,
    host_of,
    is_callback,
    is_host_name,
)
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import InvalidSubmission
from agent_service.domain.request import Callback, Caller, RequestStatus, Submission, context_id
from agent_service.domain.submission import fingerprint, parse_submission, submission_to_json
from agent_service.domain.templates import is_template

RULES = CallbackRules(allowed_hosts=("hooks.example.org", "*.example.com"))
URL = "https://hooks.example.org/ended"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def submission(callback: object, rules: CallbackRules = RULES) -> Submission:
    body = {"service": "analysis", "input": {}, "callback": callback}
    return parse_submission(body, services=["analysis"], max_deadline=timedelta(days=1), callbacks=rules)


def problems(callback: object, rules: CallbackRules = RULES) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSubmission) as caught:
        submission(callback, rules)
    return [(problem.pointer, problem.detail) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://HOOKS.example.org:443/ended?tenant=7&x=%20",
        "https://a.example.com/",
        "https://a.b.example.com/~x/(y);z=1",
    ],
)
def test_an_address_at_an_allowed_host_may_be_told(url: str) -> None:
    assert RULES.problem(url) is None
    assert submission({"url": url}).callback == Callback(url=url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://hooks.example.org/", "must begin with https://"),
        ("ftp://hooks.example.org/", "must begin with https://"),
        ("//hooks.example.org/", "must begin with https://"),
        ("hooks.example.org", "must be an address such as"),
        ("https://", "must be an address such as"),
        ("https://hooks.example.org:port/", "must be an address such as"),
        ("https://hooks.example.org:99999/", "must be an address such as"),
        ("https://hooks.example.org:0/", "must be an address such as"),
        ("https://[::1/", "must be an address such as"),
        ("https://hooks.example.org/a b", "must be an address such as"),
        ("https://hooks.example.org/\r\nX: y", "must be an address such as"),
        ("https://hooks.example.org\\@evil.example/", "must be an address such as"),
        ("https://hooks.example.org/{{ vars.secret }}", "must be an address such as"),
        ("https://hööks.example.org/", "must be an address such as"),
        ("https://user:pass@hooks.example.org/", "must not have a user or password"),
        ("https://@hooks.example.org/", "must not have a user or password"),
        ("https://hooks.example.org/#part", "must not have a fragment"),
        ("https://hooks.example.org:22/", "must have port 443, or one that is allowed here"),
        ("https://hooks.example.org:8443/", "8443 is not (CALLBACK_ALLOWED_PORTS)"),
        ("https://hooks.example.org:80/", "must have port 443, or one that is allowed here"),
        ("https://127.0.0.1/", "must name a host such as"),
        ("https://[2001:db8::1]/", "must name a host such as"),
        ("https://2130706433/", "must name a host such as"),
        ("https://1.2.3.4.5/", "must name a host such as"),
        ("https://localhost/", "must name a host such as"),
        ("https://hooks.example.org./", "must name a host such as"),
        ("https://hooks.example.org%2eevil.example/", "must name a host such as"),
        ("https://example.com/", "example.com is not"),
        ("https://evilexample.com/", "evilexample.com is not"),
        ("https://hooks.example.org.evil.example/", "hooks.example.org.evil.example is not"),
        (URL + "x" * LONGEST_CALLBACK_URL, f"must have at most {LONGEST_CALLBACK_URL} characters"),
    ],
)
def test_any_other_address_is_refused_and_told_why(url: str, said: str) -> None:
    [(pointer, detail)] = problems({"url": url})
    assert pointer == "/callback/url"
    assert detail.startswith("the address ")
    assert said in detail


def test_without_an_allowed_host_there_are_no_callbacks() -> None:
    [(pointer, detail)] = problems({"url": URL}, NO_CALLBACKS)
    assert pointer == "/callback/url"
    assert "callbacks are off here" in detail
    assert "CALLBACK_ALLOWED_HOSTS" in detail


def test_plain_http_needs_to_be_allowed() -> None:
    rules = replace(RULES, allow_http=True)
    assert rules.problem("http://hooks.example.org/") is None
    refused = rules.problem("http://hooks.example.org:443/")
    assert refused is not None
    assert refused.startswith("must have port 80, or one that is allowed here; 443 is not")
    assert rules.problem(URL) is None


@pytest.mark.parametrize(
    ("port", "allowed"), [(8443, True), (9000, True), (9010, True), (9011, False), (80, False)]
)
def test_other_ports_than_those_of_http_need_to_be_allowed(port: int, allowed: bool) -> None:
    rules = replace(RULES, allowed_ports=(PortRange(8443, 8443), PortRange(9000, 9010)))
    assert (rules.problem(f"https://hooks.example.org:{port}/") is None) == allowed


@pytest.mark.parametrize(
    ("callback", "pointer", "said"),
    [
        (URL, "/callback", 'must be an object with "url", not text'),
        (None, "/callback", 'must be an object with "url", not null'),
        ({}, "/callback", 'needs "url"'),
        ({"url": 1}, "/callback", 'needs "url"'),
        ({"url": URL, "events": []}, "/callback/events", "there is no such field"),
    ],
)
def test_a_callback_is_an_object_with_an_address(callback: object, pointer: str, said: str) -> None:
    [(where, detail)] = problems(callback)
    assert where == pointer
    assert said in detail


def test_a_submission_with_a_callback_reads_back_as_itself_and_is_another_than_without() -> None:
    with_callback = submission({"url": URL})
    assert submission_to_json(with_callback)["callback"] == {"url": URL}
    assert fingerprint(with_callback) != fingerprint(replace(with_callback, callback=None))


def test_no_step_can_name_the_service_of_callbacks() -> None:
    body = {"service": "callback", "input": {}}
    with pytest.raises(InvalidSubmission, match=r'must be the name of a service, not .*known: "analysis"'):
        parse_submission(body, services=["analysis", "callback"], max_deadline=timedelta(days=1))


def test_a_callback_is_told_from_a_step_of_the_same_name() -> None:
    assert is_callback(callback_id("r"))
    assert not is_callback(context_id("r", "callback"))
    assert callback_id("r") not in {context_id("r", "callback"), "r"}


def test_each_delivery_of_a_callback_has_a_number_and_none_is_a_step() -> None:
    ids = [callback_id("r", number) for number in (1, 2, 11)]
    assert ids == ["r:callback", "r:callback.2", "r:callback.11"]
    assert [delivery_number(each) for each in ids] == [1, 2, 11]
    assert all(is_callback(each) for each in ids)
    for no_callback in ("r", "r.2", context_id("r", "callback"), context_id("r", "2:callback")):
        assert not is_callback(no_callback)
        with pytest.raises(ValueError, match="the id of no callback"):
            delivery_number(no_callback)


def test_a_further_delivery_is_known_to_the_receiver_by_the_id_of_the_first() -> None:
    ended = EndedRequest(
        id="r", caller=Caller(), callback=Callback(url=URL), status=RequestStatus.FAILED, finished_at=NOW
    )
    first, third = [callback_context(ended, at=NOW, expires_at=NOW, number=number) for number in (1, 3)]
    assert third.id == "r:callback.3"
    assert replace(third, id=first.id) == first
    assert first.idempotency_key == first.id


def test_the_delivery_belongs_to_the_requests_organization_and_says_no_more_than_how_it_ended() -> None:
    caller = Caller(organization_id="acme", user_id="u", correlation_id="c")
    ended = EndedRequest(
        id="r", caller=caller, callback=Callback(url=URL), status=RequestStatus.FAILED, finished_at=NOW
    )
    at = NOW + timedelta(seconds=3)
    expires_at = at + timedelta(days=9)
    context = callback_context(ended, at=at, expires_at=expires_at)
    assert (context.id, context.request_id, context.service) == ("r:callback", "r", "callback")
    assert (context.status, context.run_at, context.caller) == (ContextStatus.PENDING, at, caller)
    assert context.input == {"url": URL, "status": "failed", "timestamp": "2026-01-02T03:04:05+00:00"}
    assert not is_template(context.input)
    assert (context.deadline_at, context.expires_at) == (at + CALLBACK_LIFE, expires_at)
    assert not context.sole


def test_what_is_a_host_name() -> None:
    good = ["example.org", "a-b.example.org", "xn--bcher-kva.example", "1.example.org"]
    bad = ["", "org", ".org", "a..org", "-a.org", "a-.org", "A.org", "a_b.org", "10.0.0.1", "a.b." + "c" * 64]
    assert [name for name in good if not is_host_name(name)] == []
    assert [name for name in bad if is_host_name(name)] == []
    assert not is_host_name(".".join(["a" * 60] * 5))
    assert host_of("https://HOOKS.example.org:8443/x") == "hooks.example.org"
