"""Retrying: what the new request copies, what runs anew, and under which key (protocol, rule 10)."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from agent_service.domain.context import Context, ContextError, ContextStatus
from agent_service.domain.errors import FieldProblem, InvalidSubmission, NothingToRetry
from agent_service.domain.planning import all_dependents, insertion_order, unknown_name
from agent_service.domain.request import Step

#: The error of a context that should have been taken over from a request that is gone.
ORIGINAL_EXPIRED = ContextError(
    code="original_expired",
    message="what this request repeats was removed before its results could be copied; submit it anew",
    retryable=False,
)


def choose_reused(
    steps: Sequence[Step], completed: Collection[str], from_step: str | None = None
) -> tuple[str, ...]:
    """
    The names of the steps whose results are copied, in the order of the submission.

    Everything else runs anew: what did not complete, `from_step`, and whatever waits for one of these. So a
    step that is copied depends on nothing but copied ones. Raises `InvalidSubmission` for a step that is not
    there, or steps that are no plan, and `NothingToRetry` where every step would be copied.
    """
    names = [step.name for step in insertion_order(steps)]
    if from_step is not None and from_step not in names:
        detail = f"there is no such step; {unknown_name(from_step, names)}"
        raise InvalidSubmission([FieldProblem(pointer="/from_step", detail=detail)])
    anew = {name for name in names if name not in completed or name == from_step}
    for name in tuple(anew):
        anew |= all_dependents(steps, name)
    if not anew:
        raise NothingToRetry("every step of this request completed; name the step from which to run it anew")
    return tuple(step.name for step in steps if step.name not in anew)


def repeat_contexts(
    fresh: Sequence[Context], reused: Collection[str], originals: Mapping[str, Context], *, at: datetime
) -> list[Context]:
    """
    The contexts of a retry, in the order in which they are to be inserted.

    `fresh` are those of a request that would run all of its steps, dependents before what they wait for;
    `originals` are those, by step, of the request that is repeated. Copies come first, so that whatever can
    be claimed finds the outputs that it uses. Where an original is missing that is needed, neither its result
    nor its key is known any more; then no step begins, rather than one being done a second time.
    """
    needed = [context for context in fresh if all(name in reused for name in context.waiting_on)]
    whole = all(
        context.step in originals
        and (context.step not in reused or originals[context.step].status is ContextStatus.COMPLETED)
        for context in needed
    )
    copies, others = [], []
    for context in fresh:
        if context not in needed:
            waiting_on = tuple(name for name in context.waiting_on if name not in reused)
            others.append(replace(context, waiting_on=waiting_on))
        elif not whole:
            others.append(_expired(context, at))
        elif context.step in reused:
            copies.append(_copy(context, originals[context.step], at))
        else:
            others.append(_rerun(context, originals[context.step]))
    return copies + others


def retry_fingerprint(request_id: str, from_step: str | None) -> str:
    """SHA-256 in hex of what is asked for: equal for equal retries of one request, and for nothing else."""
    text = json.dumps({"retry_of": request_id, "from_step": from_step})
    return hashlib.sha256(text.encode()).hexdigest()


def _copy(fresh: Context, original: Context, at: datetime) -> Context:
    """Completed as it stands; nothing follows from it, because nothing waits for it."""
    return replace(
        fresh,
        status=ContextStatus.COMPLETED,
        idempotency_key=original.idempotency_key,
        output=original.output,
        usage=original.usage,
        waiting_on=(),
        released_at=None,
        finished_at=at,
        settled=True,
    )


def _rerun(fresh: Context, original: Context) -> Context:
    """Claimable at once, with the key that the base service knows: its input is the same."""
    return replace(
        fresh,
        status=ContextStatus.PENDING,
        idempotency_key=original.idempotency_key,
        waiting_on=(),
        released_at=fresh.created_at,
    )


def _expired(fresh: Context, at: datetime) -> Context:
    return replace(
        fresh,
        status=ContextStatus.FAILED,
        error=ORIGINAL_EXPIRED,
        waiting_on=(),
        released_at=None,
        finished_at=at,
        settled=False,
    )
