"""Notifications: hints that something changed, from process to process; nothing correct depends on one."""

from agent_service.store.notifier.notification import Notification, Topic
from agent_service.store.notifier.notifier import Notifier
from agent_service.store.notifier.subscription import Subscription

__all__ = ["Notification", "Notifier", "Subscription", "Topic"]
