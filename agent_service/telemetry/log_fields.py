"""log_fields: what every line says that is logged about one context."""

from agent_service.domain.context import Context


def log_fields(context: Context) -> dict[str, str]:
    """Whose context it is, and of which request; to be bound to a logger."""
    fields = {
        "request_id": context.request_id,
        "context_id": context.id,
        "organization_id": context.caller.organization_id,
    }
    correlation_id = context.caller.correlation_id
    return fields if correlation_id is None else fields | {"correlation_id": correlation_id}
