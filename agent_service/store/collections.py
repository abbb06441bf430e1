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
from agent_service.store.keys import KeyCollection
from agent_service.store.leases import LeaseCollection
from agent_service.store.leftovers import LeftoverCollection
from agent_service.store.outcomes import OutcomeCollection
from agent_service.store.purging import PurgingCollection
from agent_service.store.quotas import QuotaCollection
from agent_service.store.request_list import RequestListCollection
from agent_service.store.requests import RequestCollection
from agent_service.store.schedule import ScheduleCollection
from agent_service.store.services import ServiceCollection
from agent_service.store.settlement import SettlementCollection
from agent_service.store.statistics import StatisticsCollection
from agent_service.store.undecodable import UndecodableCollection
from agent_service.store.workers import WorkerCollection


class Collections:
    """Everything that is read from one database and written to it."""

    def __init__(self, database: Database) -> None:
        self.requests = RequestCollection(database)
        self.request_list = RequestListCollection(database)
        self.contexts = ContextCollection(database)
        self.claims = ClaimCollection(database)
        self.leases = LeaseCollection(database)
        self.outcomes = OutcomeCollection(database)
        self.settlement = SettlementCollection(database)
        self.cancellation = CancellationCollection(database)
        self.callbacks = CallbackCollection(database)
        self.purging = PurgingCollection(database)
        self.leftovers = LeftoverCollection(database)
        self.schedule = ScheduleCollection(database)
        self.chunks = ChunkCollection(database)
        self.dead_letters = DeadLetterCollection(database)
        self.dead_callbacks = DeadCallbackCollection(database)
        self.workers = WorkerCollection(database)
        self.statistics = StatisticsCollection(database)
        self.counters = CounterCollection(database)
        self.services = ServiceCollection(database)
        self.undecodable = UndecodableCollection(database)
        self.keys = KeyCollection(database)
        self.quotas = QuotaCollection(database)
