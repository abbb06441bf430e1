"""Option values that are more than text."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_service.cli.option_values import parse_moment, parse_pairs
from agent_service.domain.errors import ConfigurationError


def test_a_moment_is_in_utc_unless_it_says_otherwise() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_moment("--since", None) is None
    assert parse_moment("--since", "2026-01-31T12:00") == noon
    assert parse_moment("--since", "2026-01-31T12:00:00Z") == noon
    assert parse_moment("--since", "2026-01-31T12:00+02:00") == noon - timedelta(hours=2)
    with pytest.raises(ConfigurationError, match=r"--since must be .*, not 'soon'"):
        parse_moment("--since", "soon")


def test_pairs_are_read_up_to_their_first_equals_sign() -> None:
    assert parse_pairs("--metadata", ["team=blue", "formula=a=b", "empty="]) == {
        "team": "blue",
        "formula": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("texts", [["team"], ["=blue"], ["a=1", "a=2"]])
def test_what_is_no_pair_or_is_there_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="--metadata"):
        parse_pairs("--metadata", texts)
