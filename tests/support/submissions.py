"""Submissions for tests to which it does not matter what the steps are, but how they hang together."""

from collections.abc import Mapping
from typing import Any

from agent_service.domain.request import Request, context_id
from agent_service.store import Store
from tests.support.waiting import until

#: `b` waits for `a`.
CHAIN: Mapping[str, Any] = {
    "steps": [
        {"name": "a", "service": "generation", "input": {}},
        {"name": "b", "service": "analysis", "input": {}, "after": ["a"]},
    ]
}
#: `top`, then `left`, which takes its output, and `right`, then `bottom`.
DIAMOND: Mapping[str, Any] = {
    "steps": [
        {"name": "top", "service": "generation", "input": {}},
        {"name": "left", "service": "analysis", "input": "{{ steps.top.output.text }}", "after": ["top"]},
        {"name": "right", "service": "analysis", "input": {}, "after": ["top"]},
        {"name": "bottom", "service": "communication", "input": {}, "after": ["left", "right"]},
    ]
}


async def confirmed(store: Store, *requests: Request) -> None:
    """Wait until a majority has the contexts of these."""
    ids = [context_id(request.id, step) for request in requests for step in request.step_names]

    async def there() -> bool:
        return len(await store.contexts.existing(ids)) == len(ids)

    are_there: bool = await until(there)
    assert are_there


async def planned(store: Store) -> None:
    """Wait until what was submitted through this store has its contexts, and says so."""
    await store.calls.finish()
    await store.planned_marks.flush()
