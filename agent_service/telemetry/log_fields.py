"""attempt_fields: by what every line about an attempt can be found, whoever writes it."""

from agent_service.domain.context import Context


def attempt_fields(context: Context) -> dict[str, str | int | None]:
    """
    The fields of a line about the present attempt of this context, for `bind` or `contextualize` of loguru.

    Always all of them, because a field that is None hides the one of a surrounding block.
    """
    return {
        "request_id": context.request_id,
        "context_id": context.id,
        "organization_id": context.caller.organization_id,
        "correlation_id": context.caller.correlation_id,
        "attempt": context.attempt,
    }
