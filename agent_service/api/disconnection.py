"""Disconnection: when somebody who asked is not there any more to be answered."""

from starlette.types import Receive


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection; what it still sends is passed over."""
    while (await receive())["type"] != "http.disconnect":
        pass
