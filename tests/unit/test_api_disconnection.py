"""When a client counts as gone."""

from collections.abc import MutableMapping
from typing import Any

from agent_service.api.disconnection import wait_until_gone


async def test_a_client_is_gone_when_it_has_disconnected_and_not_while_it_sends() -> None:
    messages = [{"type": name} for name in ("http.request", "http.request", "http.disconnect", "later")]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    await wait_until_gone(receive)
    assert messages == [{"type": "later"}]
