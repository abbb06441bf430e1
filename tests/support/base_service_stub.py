"""The scripted base service of users, but for what nothing was said about: that is answered with "done"."""

from agent_service.testing.base_service import UNREAD_PREFIX, ScriptedBaseService
from agent_service.testing.behaviours import complete
from agent_service.testing.calls import Behaviour

__all__ = ["UNREAD_PREFIX", "BaseServiceStub"]


class BaseServiceStub(ScriptedBaseService):
    """Records each call and answers it with the next behaviour."""

    def __init__(self) -> None:
        super().__init__(default=complete("done"))

    def behave(self, *behaviours: Behaviour) -> None:
        """One for each call from now on, the last for all that follow; what was said before is forgotten."""
        self._script.clear()
        self.script(*behaviours)
