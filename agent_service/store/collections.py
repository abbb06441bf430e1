"""Collections: what is stored, by what is done with it; one attribute for each."""

from agent_service.store.callbacks import CallbackCollection
from agent_service.store.cancellation import CancellationCollection
from agent_service.store.chunks import ChunkCollection
from agent_service.store.claims import ClaimCollection
from agent_service.store.contexts import ContextCollection
from agent_service.store.counters import CounterCollection
from agent_service.store.dead_callbacks import DeadCallbackCollection
from agent_service.store.dead_letters import DeadLetterCollection
from agent_service.store.driver import Database
from agent_service.store.indexes import INDEXES
from agent_service.store.keys import KeyCollection
from agent_service.store.leases import LeaseCollection
from agent_service.store.leftovers import LeftoverCollection
from agent_service.store.lines import LineCollection
from agent_service.store.notifier import Notifier
from agent_service.store.notifier.capped_collection import EVENTS, WORK
from agent_service.store.odd_documents import OddDocuments
from agent_service.store.outcomes import OutcomeCollection
from agent_service.store.purging import PurgingCollection
from agent_service.store.quotas import QuotaCollection
from agent_service.store.request_list import RequestListCollection
from agent_service.store.requests import RequestCollection
from agent_service.store.schedule import ScheduleCollection
from agent_service.store.services import ServiceCollection
from agent_service.store.settlement import SettlementCollection
from agent_service.store.statistics import StatisticsCollection
from agent_service.store.workers import WorkerCollection

#: Every collection that there may be; these have no index of their own.
COLLECTION_NAMES = frozenset(
    {*(index.collection for index in INDEXES), "counters", "quotas", "services", WORK, EVENTS}
)


class Collections:
    """Everything that is read from one database and written to it."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self.requests = RequestCollection(database)
        self.request_list = RequestListCollection(database)
        self.contexts = ContextCollection(database, notifier)
        self.claims = ClaimCollection(database, notifier)
        self.lines = LineCollection(database)
        self.leases = LeaseCollection(database, notifier)
        self.outcomes = OutcomeCollection(database, notifier)
        self.settlement = SettlementCollection(database, notifier)
        self.cancellation = CancellationCollection(database, notifier)
        self.callbacks = CallbackCollection(database)
        self.purging = PurgingCollection(database)
        self.leftovers = LeftoverCollection(database)
        self.schedule = ScheduleCollection(database, notifier)
        self.chunks = ChunkCollection(database, notifier)
        self.dead_letters = DeadLetterCollection(database)
        self.dead_callbacks = DeadCallbackCollection(database)
        self.workers = WorkerCollection(database)
        self.statistics = StatisticsCollection(database)
        self.counters = CounterCollection(database)
        self.services = ServiceCollection(database, notifier)
        self.keys = KeyCollection(database)
        self.quotas = QuotaCollection(database)
        self.odd_documents = OddDocuments(database)
