"""ProgressBell: rings for what happens to one request, and remembers what that was."""

from dataclasses import dataclass, field

from agent_service.store.bell import Bell
from agent_service.store.doorbell_topics import Ring, Topic


@dataclass(slots=True, kw_only=True)
class Progress:
    """What may have changed; the contexts and those that stored chunks are named by their ids."""

    everything: bool = False
    contexts: set[str] = field(default_factory=set)
    chunks: set[str] = field(default_factory=set)


class ProgressBell(Bell):
    """The bell of whoever reads one request again and again."""

    def __init__(self, request_id: str) -> None:
        super().__init__(Topic.PROGRESS, key=request_id)
        self._progress = Progress(everything=True)

    def hear(self, news: Ring) -> None:
        """Remember what it is about, and ring."""
        if not self.hears(news):
            return
        if news.context_id is None:
            self._progress.everything = True
        else:
            named = self._progress.chunks if news.is_chunk else self._progress.contexts
            named.add(news.context_id)
        self.ring()

    def miss(self) -> None:
        """News may have been missed: anything may have changed."""
        self.forget()
        self.ring()

    def forget(self) -> None:
        """Of what happened nothing is certain: anything may have changed."""
        self._progress.everything = True

    def take(self) -> Progress:
        """What may have changed since this was last asked; at first, everything."""
        taken, self._progress = self._progress, Progress()
        return taken
