"""Planning: the graph that steps form by waiting for each other, and what each may use of the others."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import islice

from agent_service.domain.errors import FieldProblem, InvalidSubmission, TemplateError
from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import MAX_STEPS, Step
from agent_service.domain.templates import find_strings, is_template, placeholders, resolve

#: Problems that are told about one submission; whoever has more has seen enough.
MAX_PROBLEMS = 50

_SHOWN_NAMES = 20
_LONGEST_NAME = 63


def check_graph(
    steps: Sequence[Step],
    pointers: Sequence[str] | None = None,
    *,
    limit: int = MAX_PROBLEMS,
) -> list[FieldProblem]:
    """
    What keeps `steps` from being a plan: duplicates, unknown or repeated names in `after`, cycles, too many.

    `pointers` are the JSON Pointers of the steps; `/steps/0`, `/steps/1`, … if not given. Empty: all is well.
    """
    if len(steps) > MAX_STEPS:
        return [FieldProblem(pointer="/steps", detail=too_many_steps(len(steps)))]
    if _is_lone(steps):
        return []
    where = pointers if pointers is not None else [f"/steps/{i}" for i in range(len(steps))]
    return list(islice(_graph_problems(steps, where), limit))


def insertion_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """
    The steps with every dependent before what it waits for (protocol, rule 7).

    A step that is there to be released never comes after the one that releases it. Raises InvalidSubmission
    when the steps are not a graph without cycles.
    """
    if _is_lone(steps):
        return tuple(steps)
    by_name = {step.name: step for step in steps}
    try:
        order = list(TopologicalSorter({step.name: step.after for step in steps}).static_order())
    except CycleError:
        raise InvalidSubmission(check_graph(steps)) from None
    if len(order) != len(steps) or by_name.keys() != set(order):
        raise InvalidSubmission(check_graph(steps))
    return tuple(by_name[name] for name in reversed(order))


def direct_dependents(steps: Iterable[Step], name: str) -> tuple[str, ...]:
    """The names of the steps that wait for `name` themselves, in the order of the submission."""
    return tuple(step.name for step in steps if name in step.after)


def all_dependents(steps: Iterable[Step], name: str) -> frozenset[str]:
    """The names of the steps that wait for `name`, directly or through others."""
    dependents: dict[str, list[str]] = {}
    for step in steps:
        for needed in step.after:
            dependents.setdefault(needed, []).append(step.name)
    return _reachable(dependents, name)


def ancestors(steps: Iterable[Step], name: str) -> frozenset[str]:
    """The names of the steps that `name` waits for, directly or through others."""
    return _reachable({step.name: step.after for step in steps}, name)


def check_templates(
    steps: Sequence[Step],
    pointers: Sequence[str],
    *,
    variables: JsonObject | None,
    graph_known: bool = True,
) -> Iterator[FieldProblem]:
    """
    Every placeholder in the inputs that can never be filled in.

    A step may use the variables and the outputs of the steps that it waits for. `variables` is None when
    they could not be read, and `graph_known` false when the graph could not: then nothing is said of them.
    """
    templates = [each for each in zip(pointers, steps, strict=True) if is_template(each[1].input)]
    needs = {step.name: step.after for step in steps} if templates else {}
    for pointer, step in templates:
        upstream = _reachable(needs, step.name)
        for where, text in find_strings(step.input, f"{pointer}/input"):
            try:
                paths = dict.fromkeys(placeholder.path for placeholder in placeholders(text))
            except TemplateError as error:
                yield FieldProblem(pointer=where, detail=str(error))
                continue
            for path in paths:
                detail = _path_problem(path, variables)
                if detail is None and path[0] == "steps" and graph_known and path[1] not in upstream:
                    detail = _output_problem(path[1], step, steps)
                if detail is not None:
                    yield FieldProblem(pointer=where, detail=detail)


def too_many_steps(count: int) -> str:
    """The detail of the problem that a submission has more steps than MAX_STEPS."""
    return f"has {count} steps; a request has at most {MAX_STEPS}: split it into several"


def unknown_name(name: str, known: Collection[str]) -> str:
    """The end of a sentence about a wrong name: what was probably meant, and what there is."""
    if not known:
        return "known: none"
    names = sorted(known)
    listed = ", ".join(f'"{n}"' for n in names[:_SHOWN_NAMES])
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    # The comparison takes quadratic time, and no name that exists is so long.
    close = get_close_matches(name, names, n=1) if len(name) <= _LONGEST_NAME else []
    meant = f'did you mean "{close[0]}"? ' if close else ""
    return f"{meant}known: {listed}{more}"


def _is_lone(steps: Sequence[Step]) -> bool:
    """Whether there is one step and it waits for nobody, as in most requests: there is no graph then."""
    return len(steps) == 1 and not steps[0].after


def _graph_problems(steps: Sequence[Step], pointers: Sequence[str]) -> Iterator[FieldProblem]:
    first: dict[str, int] = {}
    for index, step in enumerate(steps):
        if first.setdefault(step.name, index) != index:
            detail = f"this name is taken by {pointers[first[step.name]]}; every step needs a name of its own"
            yield FieldProblem(pointer=f"{pointers[index]}/name", detail=detail)
    for index, step in enumerate(steps):
        yield from _after_problems(step, first.keys(), f"{pointers[index]}/after")
    for cycle in _cycles({name: steps[index].after for name, index in first.items()}):
        detail = f"the steps wait for each other: {' → '.join((*cycle, cycle[0]))}; none of them could begin"
        yield FieldProblem(pointer=f"{pointers[first[cycle[0]]]}/after", detail=detail)


def _after_problems(step: Step, known: Collection[str], pointer: str) -> Iterator[FieldProblem]:
    seen: set[str] = set()
    for position, name in enumerate(step.after):
        where = f"{pointer}/{position}"
        if name == step.name:
            yield FieldProblem(pointer=where, detail="a step cannot wait for itself")
        elif name in seen:
            yield FieldProblem(pointer=where, detail="this step stands in the list already")
        elif name not in known:
            others = [other for other in known if other != step.name]
            detail = f"there is no such step; {unknown_name(name, others)}"
            yield FieldProblem(pointer=where, detail=detail)
        seen.add(name)


def _path_problem(path: Sequence[str], variables: JsonObject | None) -> str | None:
    if path[0] == "vars":
        if variables is None:
            return None
        try:
            resolve(path, {"vars": variables})
        except TemplateError as error:
            return str(error)
        return None
    shown = repr(".".join(path)[:_LONGEST_NAME])
    if path[0] != "steps":
        return f'{shown} must begin with "vars." for a variable or "steps." for the output of an earlier step'
    if len(path) < 3 or path[2] != "output":
        return f'{shown} must read "steps.NAME.output", and may go on from there'
    return None


def _output_problem(name: str, step: Step, steps: Sequence[Step]) -> str:
    """Why `step` cannot use the output of a step called `name`, which is not among its ancestors."""
    names = {other.name for other in steps}
    if name == step.name:
        return "a step cannot use its own output"
    if name not in names:
        return f"there is no step {name[:_LONGEST_NAME]!r}; {unknown_name(name, names - {step.name})}"
    if step.name in ancestors(steps, name):
        return f'the step "{name}" waits for this one, so its output cannot be used here'
    return f'this step does not wait for "{name}"; add "{name}" to "after"'


def _cycles(needs: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Cycles of two steps and more, without a step in common; each reads "waits for" from left to right."""
    done: set[str] = set()
    told: set[str] = set()
    for root in needs:
        if root in done:
            continue
        path: dict[str, Iterator[str]] = {root: iter(needs[root])}
        while path:
            name = next(reversed(path))
            needed = next(path[name], None)
            if needed is None:
                done.add(name)
                del path[name]
            elif needed in path and needed != name:
                names = list(path)
                cycle = tuple(names[names.index(needed) :])
                if told.isdisjoint(cycle):
                    told.update(cycle)
                    yield cycle
            elif needed in needs and needed not in done and needed not in path:
                path[needed] = iter(needs[needed])


def _reachable(edges: Mapping[str, Sequence[str]], start: str) -> frozenset[str]:
    """What can be reached from `start` by one edge or more."""
    reached: set[str] = set()
    waiting = deque(edges.get(start, ()))
    while waiting:
        name = waiting.popleft()
        if name not in reached:
            reached.add(name)
            waiting.extend(edges.get(name, ()))
    return frozenset(reached)
