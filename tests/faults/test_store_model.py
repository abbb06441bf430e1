"""Whatever is done to the store, in whatever order: it does what the model of the protocol does."""

import os
import time
from itertools import count

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from agent_service.domain.stop import STOPS, Stop
from tests.faults.support.store_machine import StoreMachine
from tests.faults.support.store_world import StoreWorld, store_world

#: For how long seeds are tried, one after the other, in `make test-all`; a long run sets more. At least the
#: first one is, and in `make test` no other.
SECONDS = float(os.environ.get("STORE_MODEL_SECONDS", "20"))
#: Tried first; whoever wants others sets another one.
FIRST_SEED = int(os.environ.get("STORE_MODEL_SEED", "1"))
_EXAMPLES_OF_A_SEED = 5


# Where it fails, Hypothesis looks for a smaller example for up to five minutes.
@pytest.mark.timeout(900 + 2 * SECONDS)
@pytest.mark.parametrize("seconds", [0.0, pytest.param(SECONDS, marks=pytest.mark.exhaustive)])
def test_the_store_does_what_the_model_does(mongodb_uri: str, database_name: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with store_world(mongodb_uri, database_name) as world:
        for number in count(FIRST_SEED):
            print(f"STORE_MODEL_SEED={number}")
            _try(world, number)
            if time.monotonic() > deadline:
                break


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.flag)
@pytest.mark.parametrize("how", ["completed", "retrying"])
def test_what_is_to_stop_does_not_go_on_though_whoever_stopped_it_died(
    mongodb_uri: str, database_name: str, stop: Stop, how: str
) -> None:
    with store_world(mongodb_uri, database_name) as opened:
        machine = _machine(opened)()
        machine.submit({"a": (), "b": ("a",)}, ["generation"] * 2, 3, 0, True)
        machine.claim(0, 1, False, False)
        if how == "retrying":
            machine.end([0], how, False)
            machine.stop(True, 0, stop, True)
            machine.promote(False)
        else:
            machine.stop(True, 0, stop, True)
            machine.end([0], how, False)
            machine.settle([0], None)
        machine.the_store_is_as_the_model_says()
        machine.teardown()


def _machine(opened: StoreWorld) -> type[StoreMachine]:
    class Machine(StoreMachine):
        world = opened

    return Machine


def _try(world: StoreWorld, number: int) -> None:
    run_state_machine_as_test(
        seed(number)(_machine(world)),
        settings=settings(
            max_examples=_EXAMPLES_OF_A_SEED,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
