"""What the doctor has to say of the size of the collections, and of what should have been removed."""

from agent_service.cli.finding import Finding
from agent_service.settings import Settings
from agent_service.store.storage_facts import LATE, MOST_COUNTED, StorageFacts

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def judge_storage(settings: Settings, facts: list[StorageFacts]) -> list[Finding]:
    """One finding for each collection, and one for the retention."""
    return [*(_size_of(each) for each in facts), _retention(settings, facts)]


def _size_of(facts: StorageFacts) -> Finding:
    return Finding(
        text=f"{facts.collection}: {facts.documents} documents, {_amount(facts.data_bytes)} of data,"
        f" {_amount(facts.index_bytes)} of indexes"
    )


def _retention(settings: Settings, facts: list[StorageFacts]) -> Finding:
    days = settings.retention.total_seconds() / 86_400
    kept = f"what has ended is kept for {days:g} days (RETENTION_DAYS)"
    late = [each for each in facts if each.late]
    if not late:
        return Finding(text=f"{kept}, and nothing expired waits to be removed")
    waiting = ", ".join(f"{_counted(each.late)} of {each.collection}" for each in late)
    minutes = LATE.total_seconds() / 60
    return Finding(
        text=f"{kept}, but documents that expired over {minutes:g} minutes ago are still there: {waiting}",
        remedy="MongoDB removes them in the background: see that its parameter ttlMonitorEnabled is true,"
        " that the indexes called expiry are there, and that the primary is not overloaded",
    )


def _counted(number: int) -> str:
    return f"{number} or more" if number >= MOST_COUNTED else str(number)


def _amount(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < 1_000:
            return f"{size:.3g} {unit}"
        size /= 1_000
    return f"{size:.3g} {_UNITS[-1]}"
