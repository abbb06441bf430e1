"""
Plans: what a request of the load looks like, and what its client does with it besides waiting.

Plan `number` of a seed is always the same. What the base service does with a step stands in the step's own
input, see `tests.faults.soak.answers`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]

_SERVICES = ("generation", "analysis", "communication")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPlan:
    """One request; seconds count from the moment it is acknowledged, None is never."""

    body: Body
    #: Submitted so many times with the same key, the later ones once the first is acknowledged.
    submissions: int = 1
    cancel_after: float | None = None
    #: Asked for again as a new request if it ends as failed, from this step on if one is named.
    retried: bool = False
    retried_from: str | None = None
    followed: bool = False
    #: A follower hangs up after so many events and comes back with its cursor.
    hangs_up_after: int | None = None


def plan_request(seed: int, number: int) -> RequestPlan:
    """The request of this number."""
    chance = random.Random(f"{seed}-{number}")
    shape = chance.choices((_single, _chain, _diamond, _fan), weights=(5, 3, 1, 1))[0]
    body: Body = {"steps": shape(chance), "metadata": {"number": number}}
    if chance.random() < 0.03:
        body["deadline_seconds"] = chance.choice((1, 2, 4))
    if chance.random() < 0.2:
        body["priority"] = chance.randrange(1, 4)
    refused = [step["name"] for step in body["steps"] if {"rejected", "rejected_once"} & set(step["input"])]
    return RequestPlan(
        body=body,
        submissions=2 if chance.random() < 0.05 else 1,
        cancel_after=chance.expovariate(1 / 0.6) if chance.random() < 0.06 else None,
        retried=bool(refused) and chance.random() < 0.8,
        retried_from=chance.choice([None, *refused]),
        followed=chance.random() < 0.12,
        hangs_up_after=chance.randrange(1, 12) if chance.random() < 0.3 else None,
    )


def _single(chance: random.Random) -> list[Body]:
    return [_step(chance, "only", chance.choice(_SERVICES))]


def _chain(chance: random.Random) -> list[Body]:
    return [
        _step(chance, "draft", "generation"),
        _step(chance, "check", "analysis", after=["draft"]),
        _step(chance, "notify", "communication", after=["check"]),
    ]


def _diamond(chance: random.Random) -> list[Body]:
    return [
        _step(chance, "draft", "generation"),
        _step(chance, "check", "analysis", after=["draft"]),
        _step(chance, "polish", "generation", after=["draft"]),
        _step(chance, "notify", "communication", after=["check", "polish"]),
    ]


def _fan(chance: random.Random) -> list[Body]:
    names = [f"part{number}" for number in range(chance.randrange(2, 5))]
    parts = [_step(chance, name, chance.choice(_SERVICES)) for name in names]
    return [*parts, _step(chance, "joined", "analysis", after=names)]


def _step(chance: random.Random, name: str, service: str, *, after: Sequence[str] = ()) -> Body:
    """One step; what it is given of those before it comes from templates."""
    asked: Body = {"milliseconds": chance.randrange(20, 500), "text": f"{name} {chance.getrandbits(32):x}"}
    if after:
        asked["before"] = [f"{{{{ steps.{other}.output.step }}}}" for other in after]
    if service == "generation" and chance.random() < 0.6:
        asked["pieces"] = chance.randrange(2, 12)
    fate = chance.random()
    if fate < 0.10:
        asked["fails"] = chance.choice((1, 1, 2))
        asked["status"] = chance.choice((500, 502, 503, 0))
    elif fate < 0.12:
        asked["rejected"] = True
    elif fate < 0.15:
        asked["rejected_once"] = True
    elif fate < 0.155:
        asked["too_many"] = chance.choice((1, 2))
    elif fate < 0.20:
        # Longer than a lease, so that it has to be renewed.
        asked["milliseconds"] = chance.randrange(2_000, 5_000)
    step: Body = {"name": name, "service": service, "input": asked}
    if after:
        step["after"] = list(after)
    return step
