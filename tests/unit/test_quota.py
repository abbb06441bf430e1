"""A quota that nobody set limits nothing."""

from agent_service.domain.quota import Quota


def test_a_quota_limits_something_as_soon_as_one_limit_is_set() -> None:
    assert not Quota().limits_anything
    assert Quota(max_open_requests=1).limits_anything
    assert Quota(submissions_per_minute=1).limits_anything
