"""Execution: one attempt, from its rendered input to its written outcome."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

from loguru import logger

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall
from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceUnavailable,
    LeaseLost,
    StoreError,
    TemplateError,
    UnstorableValue,
)
from agent_service.domain.json_value import JsonValue, find_unstorable
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.domain.templates import is_template, placeholders, render
from agent_service.domain.transitions import Transition, cancelled, completed, released
from agent_service.domain.verdict import after_error, deadline_exceeded
from agent_service.store.outcomes import Outcome
from agent_service.telemetry import fail_point
from agent_service.workers.admission import Admission
from agent_service.workers.chunk_writer import ChunkWriter
from agent_service.workers.handler_call import (
    CallLeftAloneError,
    CallOverdueError,
    CallStoppedError,
    Handler,
    HandlerCall,
    cancelled_itself,
)
from agent_service.workers.held_lease import HeldLease
from agent_service.workers.outcome_writer import OutcomeWriter
from agent_service.workers.stop_signal import StopReason, StopSignal, stopped_at_claim

#: How much later than its limit a call is given up from outside.
_LATE = timedelta(seconds=1)
#: How long a context waits whose input could not be read.
_UNREADABLE_PAUSE = timedelta(seconds=2)

#: Runs what is left of an attempt in another task; False where nothing is to go on any more.
GoOn: TypeAlias = Callable[[Callable[[], Awaitable[None]]], bool]


class Execution:
    """
    One attempt.

    `run` is the whole story: perform, then record. `stop_signal` ends the call to the base service, and does
    nothing once that has ended; `answer_bytes` is what its answer takes until it is written.
    """

    def __init__(
        self,
        context: Context,
        *,
        contexts: ContextManager,
        handler: Handler,
        outcomes: OutcomeWriter,
        lease_ends: float,
        timeout: timedelta,
        backoff: RetryPolicy,
        admission: Admission | None = None,
    ) -> None:
        if context.lease is None:
            raise ValueError(f"context {context.id} was not claimed")
        self.context = context
        #: What was flagged before it was claimed is stopped before it begins.
        self.stop_signal = StopSignal(stopped_at_claim(context))
        self.lease = HeldLease(
            context.id,
            context.lease.token,
            ends=lease_ends,
            on_lost=partial(self.stop_signal.stop, StopReason.LEASE_LOST),
        )
        self._contexts = contexts
        self._handler = handler
        self._outcomes = outcomes
        self._timeout = timeout
        self._backoff = backoff
        self._admission = admission
        #: Whether the request's own deadline left the call less time than calls have.
        self._cut_short = False
        self.answer_bytes = 0
        self._chunks = ChunkWriter(contexts, context, self.lease)
        self._unfinished: asyncio.Future[Any] | None = None
        self._began = time.monotonic()

    async def run(self, on_worked: Callable[[], None], go_on: GoOn) -> None:
        """
        Do the attempt and write how it ended; a lost lease writes nothing. Lines of the log tell whose they
        are by what surrounds this.

        `on_worked` is called when the work is over and only its outcome is left to be written; `go_on` where
        the handler keeps this task although the attempt has ended, and where it has cancelled it.
        """
        self._began = time.monotonic()
        # Nothing here holds these two: they refer to this attempt.
        perform = partial(self._perform, partial(self._go_on_without, on_worked, go_on))
        await self._end(perform, on_worked, go_on)

    async def _end(
        self, perform: Callable[[], Awaitable[Transition]], on_worked: Callable[[], None], go_on: GoOn
    ) -> None:
        goes_on = False
        try:
            transition = await perform()
        except CallLeftAloneError:
            goes_on = True
            return
        except asyncio.CancelledError:
            # Where nobody of ours ends the attempt, its handler has cancelled this task, and may do so again.
            error = CallStoppedError() if self.stop_signal.reason else cancelled_itself()
            goes_on = go_on(partial(self._end, partial(self._ended_by, error), on_worked, go_on))
            raise
        except LeaseLost:
            await self._chunks.abandon()
            self._outcomes.lost(self.context)
            logger.warning("the lease was lost; the attempt is dropped")
            return
        finally:
            if not goes_on:
                if self._admission is not None:
                    self._admission.over()
                on_worked()
        outcome = Outcome(context=self.context, transition=transition, size=self.answer_bytes)
        if not await self._outcomes.write(outcome):
            logger.warning("the lease was lost before the outcome was written")
            return
        # A field beside the text, as `bind` would add it.
        logger.info(
            "{} {}{}",
            self.context.service,
            transition.outcome,
            f": {transition.error.code}" if transition.error else "",
            seconds=round(time.monotonic() - self._began, 3),
        )

    @property
    def unfinished_call(self) -> asyncio.Future[Any] | None:
        """The handler's work, if it goes on although it was told to end."""
        return None if self._unfinished is None or self._unfinished.done() else self._unfinished

    def _go_on_without(
        self, on_worked: Callable[[], None], go_on: GoOn, error: Exception, task: asyncio.Task[Any]
    ) -> None:
        """The handler goes on in this task although it was told to end, for which the attempt has ended."""
        self._unfinished = task
        go_on(partial(self._end, partial(self._ended_by, error), on_worked, go_on))

    async def _perform(self, on_left_alone: Callable[[Exception, asyncio.Task[Any]], None]) -> Transition:
        """The work, and how it ended. Raises `LeaseLost` and `CallLeftAloneError`."""
        try:
            if self.stop_signal.reason is not None:
                raise CallStoppedError
            answer = await self._call(await self._render_input(), on_left_alone)
            fail_point.reach("attempt.after_call")
            chunks = await self._chunks.finish()
            self._check_storable(answer)
        except (LeaseLost, CallLeftAloneError):
            raise
        except _InputUnreadableError as error:
            logger.warning("the input could not be read: {}", error)
            now = self._contexts.now()
            return released(at=now, run_at=now + _UNREADABLE_PAUSE)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends the attempt, and is logged
            return await self._ended_by(error)
        return completed(at=self._contexts.now(), output=answer.output, usage=answer.usage, chunks=chunks)

    async def _ended_by(self, error: Exception) -> Transition:
        """How an attempt ends that was stopped or failed. Raises `LeaseLost`."""
        if isinstance(error, CallStoppedError):
            return await self._stopped()
        return await self._failed(self._out_of_time() if isinstance(error, CallOverdueError) else error)

    async def _render_input(self) -> JsonValue:
        """The input with its placeholders filled in. Raises `TemplateError`."""
        if not is_template(self.context.input):
            return self.context.input
        used = placeholders(self.context.input)
        if not used:
            return render(self.context.input, {})
        try:
            scope = await self._contexts.scope(self.context, used)
        except StoreError as error:
            raise _InputUnreadableError(str(error)) from error
        rendered = render(self.context.input, scope)
        self._check_rendered(rendered)
        return rendered

    async def _call(
        self, rendered: JsonValue, on_left_alone: Callable[[Exception, asyncio.Task[Any]], None]
    ) -> BaseServiceAnswer:
        """Have the handler do the work, which `stop` can end."""
        call = self._new_call(rendered)
        if call.timeout <= timedelta(0):
            raise _DeadlineExceededError
        self._cut_short = call.timeout < self._timeout
        fail_point.reach("attempt.before_call")
        self.lease.check()
        if self.stop_signal.reason is not None:
            raise CallStoppedError
        # The client of a base service ends in time by itself; a handler of somebody else's may not.
        calling = HandlerCall(
            stopped=self.stop_signal.given, within=call.timeout + _LATE, on_left_alone=on_left_alone
        )
        answer = await calling.answer(self._handler(call, self._chunks.add))
        if self._admission is not None:
            self._admission.succeeded()
        return answer

    def _out_of_time(self) -> Exception:
        if self._cut_short:
            return _DeadlineExceededError()
        seconds = self._timeout.total_seconds()
        return BaseServiceUnavailable("timeout", f"the handler did not end within {seconds:.3g} s")

    def _new_call(self, rendered: JsonValue) -> BaseServiceCall:
        context = self.context
        return BaseServiceCall(
            context_id=context.id,
            request_id=context.request_id,
            step=context.step,
            attempt=context.attempt,
            input=rendered,
            metadata=context.metadata,
            idempotency_key=context.idempotency_key,
            organization_id=context.caller.organization_id,
            user_id=context.caller.user_id,
            correlation_id=context.caller.correlation_id,
            traceparent=context.caller.traceparent,
            timeout=min(self._timeout, context.deadline_at - self._contexts.now()),
        )

    def _check_rendered(self, rendered: JsonValue) -> None:
        """Find what is no input any more once it is filled in. Raises `TemplateError`."""
        for problem in find_unstorable(rendered):
            raise TemplateError(f"the filled-in input cannot be used: {problem.pointer}: {problem.detail}")
        try:
            self._contexts.check_size(self.context, {"rendered": rendered})
        except UnstorableValue as error:
            raise TemplateError("the input is too large once it is filled in") from error

    def _check_storable(self, answer: BaseServiceAnswer) -> None:
        """Find what MongoDB cannot hold before it is written. Raises `UnstorableValue`."""
        for problem in find_unstorable({"output": answer.output, "usage": answer.usage}):
            raise UnstorableValue(f"the answer cannot be stored: {problem.pointer}: {problem.detail}")
        stored = {"output": answer.output, "usage": answer.usage}
        self.answer_bytes = self._contexts.check_size(self.context, stored)

    async def _stopped(self) -> Transition:
        """How an attempt ends that was stopped from outside. Raises `LeaseLost`."""
        chunks = await self._chunks.abandon()
        match self.stop_signal.reason:
            case StopReason.CANCELLED:
                return cancelled(at=self._contexts.now(), chunks=chunks)
            case StopReason.DEADLINE:
                return deadline_exceeded(at=self._contexts.now(), chunks=chunks)
            case StopReason.RELEASED:
                fail_point.reach("release.sending")
                return released(at=self._contexts.now(), chunks=chunks)
            case _:
                raise LeaseLost(f"the lease of {self.context.id} has ended")

    async def _failed(self, error: Exception) -> Transition:
        chunks = await self._chunks.abandon()
        if isinstance(error, _DeadlineExceededError):
            return deadline_exceeded(at=self._contexts.now(), chunks=chunks)
        if not isinstance(error, AgentServiceError):
            logger.opt(exception=error).error("the handler raised {}", type(error).__name__)
        wait = None
        if self._admission is not None:
            wait = await self._admission.failed(error, cut_short=self._cut_short)
        return after_error(
            self.context,
            error,
            at=self._contexts.now(),
            chunks=chunks,
            policy=self._backoff,
            random=random.random,
            wait=wait,
        )


class _InputUnreadableError(Exception):
    """MongoDB did not say what the placeholders of the input stand for."""


class _DeadlineExceededError(Exception):
    """There is no time left for the call."""
