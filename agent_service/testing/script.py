"""Script: which behaviour a call gets, by what it is for."""

from dataclasses import dataclass

from agent_service.testing.calls import Behaviour, RecordedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which calls are meant; None means all."""

    service: str | None = None
    step: str | None = None
    context_id: str | None = None
    attempt: int | None = None

    def fits(self, call: RecordedCall) -> bool:
        """Whether the call is meant. Its body is read only where that is asked for."""
        if self.service not in (None, call.service):
            return False
        if self.step is None and self.context_id is None and self.attempt is None:
            return True
        asked = call.json()
        wanted = (("step", self.step), ("context_id", self.context_id), ("attempt", self.attempt))
        return all(value is None or asked.get(name) == value for name, value in wanted)


@dataclass(slots=True)
class _Rule:
    selector: Selector
    #: What is left of the sequence; the last one is for all calls that follow.
    behaviours: list[Behaviour]
    #: How many more calls it is for; None: for all.
    left: int | None

    def fits(self, call: RecordedCall) -> bool:
        return self.left != 0 and self.selector.fits(call)

    def take(self) -> Behaviour:
        if self.left is not None:
            self.left -= 1
        return self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]


class Script:
    """Rules of behaviour; where several fit a call, the one that was added last counts."""

    def __init__(self, default: Behaviour) -> None:
        self._default = default
        self._rules: list[_Rule] = []

    def add(self, *behaviours: Behaviour, selector: Selector, times: int | None = None) -> None:
        """One behaviour for each call that fits, the last for all that follow; `times` calls in all."""
        if not behaviours:
            raise ValueError("a script needs at least one behaviour")
        self._rules.append(_Rule(selector, list(behaviours), times))

    def clear(self) -> None:
        """Drop all rules."""
        self._rules.clear()

    def choose(self, call: RecordedCall) -> Behaviour:
        """The behaviour for a call, which is used up by it."""
        for rule in reversed(self._rules):
            if rule.fits(call):
                return rule.take()
        return self._default
