"""A rank that is no integer, which somebody may have stored, is read over."""

import math
from typing import Any

import pytest
from bson.decimal128 import Decimal128

from agent_service.domain.line import Candidate
from tests.support.roll_actions import LINES, a_roll


@pytest.mark.parametrize("odd", [Decimal128("1"), math.nan, True])
def test_an_odd_rank_is_claimed_and_is_no_place_to_go_on_from(odd: Any) -> None:
    roll, [line, *_] = a_roll(), LINES
    roll.tell(line, 5)
    found = roll.found(roll.choose(1), [[Candidate("odd", odd), Candidate("usual", 7)]])
    assert [each.id for each in found] == ["odd"]
    [stretch] = roll.choose(1).stretches
    assert stretch.since == 7
    roll.tell(line, 6)
    [stretch] = roll.choose(1).stretches
    assert stretch.since == 6
