"""`python -m tests.fuzz`: give each parser new input for so many minutes, and exit with 1 if one fails."""

import argparse
import random
import sys
import time
import traceback
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

#: Inputs of one seed; a round of them is not broken off.
_ROUND = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments, fuzz one parser after the other, and say what was seen."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long each parser is tried (10)")
    parser.add_argument("--target", action="append", choices=names, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, help="of the first round, to see a failure again")
    chosen = parser.parse_args(arguments)
    failed = 0
    for target in TARGETS:
        if chosen.target is None or target.name in chosen.target:
            failed += not _fuzz(target, seconds=chosen.minutes * 60, first_seed=chosen.seed)
    return 1 if failed else 0


def _fuzz(target: Target, *, seconds: float, first_seed: int | None) -> bool:
    began = time.monotonic()
    inputs = 0
    number = random.SystemRandom().randrange(2**32) if first_seed is None else first_seed
    while True:
        try:
            inputs += _round(target, number)
        except Exception:  # noqa: BLE001 - whatever a parser raises that it does not document is the finding
            traceback.print_exc()
            print(f"{target.name}: FAILED after {inputs} inputs, in the round of seed {number}", flush=True)
            return False
        if time.monotonic() - began >= seconds:
            break
        number += 1
    print(f"{target.name}: {inputs} inputs in {time.monotonic() - began:.0f} s, nothing found", flush=True)
    return True


def _round(target: Target, number: int) -> int:
    inputs = 0

    @seed(number)
    @settings(
        max_examples=_ROUND,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def check(value: object) -> None:
        nonlocal inputs
        inputs += 1
        target.check(value)

    check()
    return inputs


if __name__ == "__main__":
    sys.exit(main())
