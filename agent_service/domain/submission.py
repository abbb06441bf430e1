"""Submission: from decoded JSON to a plan that can run, or to every reason why it cannot."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from agent_service.domain.callback import CALLBACK_SERVICE, NO_CALLBACKS, CallbackRules
from agent_service.domain.errors import FieldProblem, InvalidSubmission
from agent_service.domain.json_value import JsonObject, JsonValue, escape_pointer, find_unstorable, own_copy
from agent_service.domain.planning import (
    MAX_PROBLEMS,
    check_graph,
    check_templates,
    too_many_steps,
    unknown_name,
)
from agent_service.domain.request import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_QUEUE,
    MAX_STEPS,
    STEP_NAME,
    Callback,
    Step,
    Submission,
)
from agent_service.domain.shown_value import SHOWN_CHARACTERS, kind, quoted, shown

#: Names of queues.
QUEUE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
#: Priorities go from 0, which is served first, to this.
LOWEST_PRIORITY = 9

_STEP_FIELDS = ("name", "service", "input", "after", "queue")
_SHORT_FIELDS = ("service", "input", "queue")
_COMMON_FIELDS = ("variables", "metadata", "priority", "deadline_seconds", "callback")
_LONG_FORM, _SHORT_FORM = ("steps", *_COMMON_FIELDS), (*_SHORT_FIELDS, *_COMMON_FIELDS)
_CALLBACK_FIELDS = ("url",)
_USUAL: Mapping[str, int] = {}
_NAME_RULE = f"a name that matches {STEP_NAME.pattern}"
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=dict)


def parse_submission(
    body: object,
    *,
    services: Collection[str],
    max_deadline: timedelta,
    max_attempts: Mapping[str, int] = _USUAL,
    callbacks: CallbackRules = NO_CALLBACKS,
    copies: bool = False,
) -> Submission:
    """
    Check decoded JSON and make a Submission of it; `deadline` is None where the body names none.

    `max_attempts` are the tries of steps by their service. Unless it `copies`, the body must never be changed
    again. Raises InvalidSubmission with all problems, MAX_PROBLEMS at most.
    """
    known = [service for service in services if service != CALLBACK_SERVICE]
    parser = _Parser(known, max_deadline, max_attempts, callbacks, copies)
    if not isinstance(body, dict | Mapping):
        parser.add("", f"must be an object with {quoted(('steps',))}, not {kind(body)}")
        raise InvalidSubmission(parser.problems)
    submission = parser.parse(body)
    if parser.problems:
        raise InvalidSubmission(parser.problems)
    return submission


def submission_to_json(submission: Submission) -> JsonObject:
    """The submission in its one full form, which `parse_submission` reads back as an equal one."""
    steps: list[JsonObject] = [
        {
            "name": step.name,
            "service": step.service,
            "input": step.input,
            "after": list(step.after),
            "queue": step.queue,
        }
        for step in submission.steps
    ]
    full: dict[str, JsonValue] = {
        "steps": steps,
        "variables": submission.variables,
        "metadata": submission.metadata,
        "priority": submission.priority,
    }
    if submission.deadline is not None:
        full["deadline_seconds"] = submission.deadline.total_seconds()
    if submission.callback is not None:
        full["callback"] = {"url": submission.callback.url}
    return full


def fingerprint(submission: Submission) -> str:
    """SHA-256 in hex of the full form: equal for equal submissions, however they were written."""
    return hashlib.sha256(_CANONICAL.encode(submission_to_json(submission)).encode()).hexdigest()


@dataclass(slots=True)
class _Parser:
    """One run over one body. Every reader adds its problems and returns something usable all the same."""

    services: Collection[str]
    max_deadline: timedelta
    max_attempts: Mapping[str, int]
    callbacks: CallbackRules
    copies: bool
    problems: list[FieldProblem] = field(default_factory=list)
    #: False once names or `after` cannot be read: then nothing is said about the graph that may be untrue.
    graph_readable: bool = True

    def add(self, pointer: str, detail: str) -> None:
        self.problems.append(FieldProblem(pointer=pointer, detail=detail))
        if len(self.problems) >= MAX_PROBLEMS:
            raise InvalidSubmission(self.problems)

    def parse(self, body: Mapping[object, object]) -> Submission:
        pointers, steps = self._steps(body)
        variables = self._object(body, "variables")
        metadata = self._object(body, "metadata")
        priority = self._priority(body["priority"]) if "priority" in body else 0
        deadline = self._deadline(body["deadline_seconds"]) if "deadline_seconds" in body else None
        callback = self._callback(body["callback"]) if "callback" in body else None
        if self.graph_readable:
            graph_problems = check_graph(steps, pointers)
            for problem in graph_problems:
                self.add(problem.pointer, problem.detail)
            self.graph_readable = not graph_problems
        for problem in check_templates(steps, pointers, variables=variables, graph_known=self.graph_readable):
            self.add(problem.pointer, problem.detail)
        return Submission(
            steps=tuple(steps),
            variables=variables or {},
            metadata=metadata or {},
            priority=priority,
            deadline=deadline,
            callback=callback,
        )

    def _steps(self, body: Mapping[object, object]) -> tuple[list[str], list[Step]]:
        """The steps with their JSON Pointers; the short form is one step at the root."""
        if "steps" not in body:
            self._unknown_fields(body, "", _SHORT_FORM, also=("steps",))
            if "service" not in body:
                self.add("", 'needs "steps", a list, or for a single step "service" and "input"')
                return [], []
            return [""], [self._step(body, "", short=True)]
        for name in _SHORT_FIELDS:
            if name in body:
                self.add(f"/{name}", f'a body has either "steps" or "{name}"; put this one into a step')
        self._unknown_fields(body, "", _LONG_FORM, also=_SHORT_FIELDS)
        items = body["steps"]
        if not isinstance(items, list | tuple):
            self.add("/steps", f"must be a list of steps, not {kind(items)}")
            return [], []
        if not items:
            self.add("/steps", "must have at least one step")
        if len(items) > MAX_STEPS:
            self.add("/steps", too_many_steps(len(items)))
            return [], []
        pointers, steps = [], []
        for index, item in enumerate(items):
            if isinstance(item, dict | Mapping):
                pointers.append(f"/steps/{index}")
                self._unknown_fields(item, pointers[-1], _STEP_FIELDS)
                steps.append(self._step(item, pointers[-1], short=False))
            else:
                self.graph_readable = False
                self.add(f"/steps/{index}", f"must be an object with {quoted(_STEP_FIELDS[:3])}")
        return pointers, steps

    def _step(self, item: Mapping[object, object], pointer: str, *, short: bool) -> Step:
        service = self._service(item, pointer)
        if "input" not in item:
            self.add(pointer, 'needs "input", what the service is to work on; any JSON value')
        return Step(
            name=service if short else self._name(item, pointer),
            service=service,
            input=self._storable(item.get("input"), f"{pointer}/input"),
            after=self._after(item["after"], f"{pointer}/after") if "after" in item and not short else (),
            queue=self._queue(item["queue"], f"{pointer}/queue") if "queue" in item else DEFAULT_QUEUE,
            max_attempts=self.max_attempts.get(service, DEFAULT_MAX_ATTEMPTS),
        )

    def _name(self, item: Mapping[object, object], pointer: str) -> str:
        if "name" not in item:
            self.add(pointer, f'needs "name", {_NAME_RULE}')
        else:
            name = item["name"]
            if isinstance(name, str) and STEP_NAME.fullmatch(name):
                return name
            self.add(f"{pointer}/name", f"must be {_NAME_RULE}, not {shown(name)}")
        self.graph_readable = False
        return ""

    def _service(self, item: Mapping[object, object], pointer: str) -> str:
        if "service" not in item:
            self.add(pointer, f'needs "service"; {unknown_name("", self.services)}')
            return ""
        service = item["service"]
        if isinstance(service, str) and service in self.services:
            return service
        known = unknown_name(service if isinstance(service, str) else "", self.services)
        self.add(f"{pointer}/service", f"must be the name of a service, not {shown(service)}; {known}")
        return ""

    def _after(self, value: object, pointer: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            self.graph_readable = False
            self.add(pointer, f"must be a list of the names of steps, not {shown(value)}")
            return ()
        for index, name in enumerate(value):
            if not isinstance(name, str):
                self.graph_readable = False
                self.add(f"{pointer}/{index}", f"must be the name of a step, not {kind(name)}")
        return tuple(name for name in value if isinstance(name, str))

    def _queue(self, value: object, pointer: str) -> str:
        if isinstance(value, str) and QUEUE_NAME.fullmatch(value):
            return value
        self.add(pointer, f"must be a name that matches {QUEUE_NAME.pattern}, not {shown(value)}")
        return DEFAULT_QUEUE

    def _priority(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LOWEST_PRIORITY:
            return value
        detail = f"must be an integer from 0, served first, to {LOWEST_PRIORITY}, not {shown(value)}"
        self.add("/priority", detail)
        return 0

    def _deadline(self, value: object) -> timedelta | None:
        longest = self.max_deadline.total_seconds()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= longest:
            deadline = timedelta(seconds=value)
            if deadline:
                return deadline
        detail = f"must be a number of seconds above 0 and up to {longest:g}, not {shown(value)}"
        self.add("/deadline_seconds", detail)
        return None

    def _callback(self, value: object) -> Callback | None:
        if not isinstance(value, Mapping):
            self.add("/callback", f'must be an object with "url", not {kind(value)}')
            return None
        self._unknown_fields(value, "/callback", _CALLBACK_FIELDS)
        url = value.get("url")
        if not isinstance(url, str):
            self.add("/callback", 'needs "url", the address that is told when the request has ended')
            return None
        problem = self.callbacks.problem(url)
        if problem is not None:
            self.add("/callback/url", f"the address {problem}")
        return Callback(url=url)

    def _object(self, body: Mapping[object, object], name: str) -> JsonObject | None:
        """The object of that name, empty if left out, None if it is wrong."""
        if name not in body:
            return {}
        value = body[name]
        if not isinstance(value, Mapping):
            self.add(f"/{name}", f"must be an object, not {kind(value)}")
            return None
        stored = self._storable(value, f"/{name}")
        return stored if isinstance(stored, Mapping) else None

    def _storable(self, value: object, pointer: str) -> JsonValue:
        """`value` if MongoDB can hold it, otherwise null and its problems."""
        storable = True
        for problem in find_unstorable(value, pointer):
            storable = False
            self.add(problem.pointer, problem.detail)
        if not storable:
            return None
        # What find_unstorable lets pass is a JSON value, which the type checker cannot see.
        checked: JsonValue = value  # type: ignore[assignment]
        return own_copy(checked) if self.copies else checked

    def _unknown_fields(
        self, item: Mapping[object, object], pointer: str, known: tuple[str, ...], also: tuple[str, ...] = ()
    ) -> None:
        for key in item:
            if key not in known and key not in also:
                name = str(key).encode(errors="backslashreplace").decode()[:SHOWN_CHARACTERS]
                detail = f"there is no such field; {unknown_name(name, known)}"
                self.add(f"{pointer}/{escape_pointer(name)}", detail)
