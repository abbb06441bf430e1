"""ProgressSubscription: wakes for what happens to one request, and remembers what that was."""

from dataclasses import dataclass, field

from agent_service.store.notifier.notification import Notification, Topic
from agent_service.store.notifier.subscription import Subscription


@dataclass(slots=True, kw_only=True)
class Progress:
    """What may have changed; the contexts and those that stored chunks are named by their ids."""

    everything: bool = False
    contexts: set[str] = field(default_factory=set)
    chunks: set[str] = field(default_factory=set)


class ProgressSubscription(Subscription):
    """The subscription of whoever reads one request again and again."""

    def __init__(self, request_id: str) -> None:
        super().__init__(Topic.PROGRESS, key=request_id)
        self._progress = Progress(everything=True)

    def receive(self, notification: Notification) -> None:
        """Remember what it is about, and wake the waiter."""
        if not self.matches(notification):
            return
        if notification.context_id is None:
            self._progress.everything = True
        else:
            named = self._progress.chunks if notification.is_chunk else self._progress.contexts
            named.add(notification.context_id)
        self.wake()

    def missed(self) -> None:
        """Notifications may have been missed: anything may have changed."""
        self.forget()
        self.wake()

    def forget(self) -> None:
        """Of what happened nothing is certain: anything may have changed."""
        self._progress.everything = True

    def take(self) -> Progress:
        """What may have changed since this was last asked; at first, everything."""
        taken, self._progress = self._progress, Progress()
        return taken
