"""Doctor: looks at everything that the service depends on, and says what to do about what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from agent_service.api.listening import needs_keys
from agent_service.cli.doctor_storage import judge_storage
from agent_service.cli.finding import Finding
from agent_service.cli.open_store import open_store
from agent_service.cli.running_service import find_mongodb
from agent_service.domain.api_key import ApiKey
from agent_service.domain.callback import CALLBACK_SERVICE
from agent_service.domain.errors import AgentServiceError, StoreError
from agent_service.keys.key_file import KeyFile
from agent_service.local.addresses import find_addresses
from agent_service.settings import Settings, mask_uri
from agent_service.store import Store
from agent_service.store.server_facts import ServerFacts, confirm_majority, read_server_facts
from agent_service.store.storage_facts import read_storage_facts
from agent_service.store.workers import BY_LINES, SILENT_AFTER

#: The oldest MongoDB that is supported.
OLDEST_VERSION = (6, 0)
#: Leases are measured by the server's clock, so a difference does no harm; a large one confuses people.
LARGEST_CLOCK_DIFFERENCE = timedelta(seconds=5)
_CONNECT_LIMIT = timedelta(seconds=3)
#: A worker that was seen within this time is there.
_SEEN_WITHIN = timedelta(minutes=1)


async def examine(settings: Settings, *, fix: bool, drop_old_indexes: bool = False) -> AsyncIterator[Finding]:
    """
    Look at MongoDB, API keys and base services.

    With `fix`, create the indexes that are missing; with `drop_old_indexes`, drop what older versions need.
    """
    try:
        uri = find_mongodb(settings)
    except AgentServiceError as error:
        yield Finding(text=str(error), remedy="set MONGODB_URI to the address of a replica set")
    else:
        async for finding in _examine_mongodb(settings, uri, fix=fix, drop=drop_old_indexes):
            yield finding
    addresses = find_addresses(settings.data_folder)
    running = addresses.base_urls if addresses else {}
    for name, service in settings.services.items():
        base_url = service.base_url or running.get(name)
        if base_url is None:
            yield Finding(text=f"{name.upper()}_BASE_URL is not set: no worker for {name} can run here")
        else:
            yield await _examine_base_service(name, base_url)
    yield _examine_callback_settings(settings)


async def _examine_mongodb(settings: Settings, uri: str, *, fix: bool, drop: bool) -> AsyncIterator[Finding]:
    mongodb = settings.mongodb
    shown = mask_uri(uri)
    try:
        facts = await read_server_facts(uri, driver=mongodb.driver)
    except AgentServiceError as error:
        yield Finding(
            text=f"MongoDB at {shown} cannot be used: {error}",
            remedy="check that it runs, that MONGODB_URI is right, and that this machine may reach it",
        )
        return
    yield Finding(text=f"MongoDB at {shown} answers")
    for finding in _judge(facts):
        yield finding
    try:
        await confirm_majority(uri, database=mongodb.database, driver=mongodb.driver)
        yield Finding(text="a majority of the members confirms writes")
    except AgentServiceError as error:
        yield Finding(
            text=f"no majority of the members confirms writes: {error}",
            remedy="see rs.status(): most members must be up, and the user must be allowed to write",
        )
    async for finding in _examine_indexes(settings, fix=fix, drop=drop):
        yield finding
    yield await _examine_notifications(settings, fix=fix)
    for finding in await _examine_documents(settings):
        yield finding
    yield await _examine_keys(settings)
    async for finding in _examine_waiting_callbacks(settings):
        yield finding
    for finding in await _examine_storage(settings, uri, now=datetime.now(UTC) + facts.clock_ahead):
        yield finding


def _judge(facts: ServerFacts) -> list[Finding]:
    """What there is to say of the server's version, replica set and clock."""
    version = ".".join(str(part) for part in facts.version)
    oldest = ".".join(str(part) for part in OLDEST_VERSION)
    return [
        Finding(
            text=f"version {version}",
            remedy=None if facts.version >= OLDEST_VERSION else f"upgrade MongoDB to {oldest} or later",
        ),
        Finding(text=f"it is a {facts.topology}")
        if facts.topology
        else Finding(
            text="this is a standalone server: what it confirms is lost with it",
            remedy="start mongod with --replSet rs0 and run rs.initiate() once; one node is enough",
        ),
        Finding(
            text=f"its clock and ours differ by {abs(facts.clock_ahead).total_seconds():.3f} s"
            f" (give or take {facts.round_trip.total_seconds() / 2:.3f} s)",
            remedy=None
            if abs(facts.clock_ahead) <= LARGEST_CLOCK_DIFFERENCE
            else "synchronise both clocks, with NTP for instance",
        ),
    ]


async def _older_workers(store: Store) -> Finding | None:
    """Why the indexes of older versions cannot be dropped yet. Raises `StoreUnavailable`."""
    seen = await store.workers.seen_since(store.clock.now() - SILENT_AFTER)
    older = sorted(f"{worker.service} on {worker.host}" for worker in seen if worker.claims_by != BY_LINES)
    if not older:
        return None
    return Finding(
        text=f"workers of an older version need their indexes: {', '.join(older)}",
        remedy="replace them, and then the API processes of that version; then repeat this",
    )


async def _examine_indexes(settings: Settings, *, fix: bool, drop: bool) -> AsyncIterator[Finding]:
    async with open_store(settings) as store:
        try:
            if fix:
                await store.prepare()
            if drop and (older := await _older_workers(store)):
                yield older
            elif drop:
                await store.drop_old_indexes()
            problems = await store.problems()
            old = await store.old_indexes()
        except StoreError as error:
            yield Finding(
                text=f"the indexes cannot be seen to: {error}", remedy="see the message; then repeat"
            )
            return
    for index in old:
        yield Finding(
            text=f"the index {index.name} of {index.collection} is only for older versions, and slows down"
            " every write; once no process of one runs any more, workers and API,"
            " `agent-service doctor --drop-old-indexes` drops it"
        )
    if not problems:
        yield Finding(text=f"all indexes of the database {settings.mongodb.database} are there")
    for problem in problems:
        yield Finding(
            text=problem,
            remedy="drop the index that has its name and repeat this"
            if fix
            else "run `agent-service doctor --fix`",
        )


async def _examine_notifications(settings: Settings, *, fix: bool) -> Finding:
    """Whether processes can notify each other, in collections that do not grow for ever."""
    async with open_store(settings) as store:
        try:
            if fix:
                await store.notifier.prepare()
            unlimited = await store.notifier.unlimited()
        except StoreError as error:
            return Finding(
                text=f"processes cannot notify each other, so each polls every second: {error}",
                remedy="let the user of MONGODB_URI create collections: give it the role readWrite",
            )
    if unlimited:
        return Finding(
            text=f"{', '.join(unlimited)} should be capped and would grow for ever",
            remedy="run `agent-service doctor --fix`, or start any process",
        )
    return Finding(text="processes notify each other in capped collections")


async def _examine_documents(settings: Settings) -> list[Finding]:
    """Whether everything that is stored can be decoded; what cannot is not worked on by anybody."""
    async with open_store(settings) as store:
        try:
            found = await store.odd_documents.find()
        except StoreError as error:
            return [Finding(text=f"the documents cannot be looked at: {error}", remedy="see the message")]
    remedy = "mend or delete them by hand; a request with such a step ends at its deadline, if it can"
    findings = [
        Finding(
            text=f"{odd.collection} has documents that cannot be read, such as {odd.id}: {odd.problem}",
            remedy=remedy,
        )
        for odds in found.values()
        for odd in odds or ()
    ]
    late = [name for name, odds in found.items() if odds is None]
    if late:
        findings.append(Finding(text=f"too much is stored in {', '.join(late)} to look at all documents"))
    return findings or [Finding(text="all documents can be read")]


async def _examine_keys(settings: Settings) -> Finding:
    """How many API keys there are, and whether that fits what the API asks for."""
    path = settings.api.keys_file
    kept: list[ApiKey] = []
    try:
        if path is not None:
            kept += KeyFile(path).keys().values()
        async with open_store(settings) as store:
            kept += await store.keys.all()
    except AgentServiceError as error:
        return Finding(
            text=f"the API keys cannot be seen to: {error}", remedy="mend what it names; then repeat this"
        )
    now = datetime.now(UTC)
    active = sum(key.state(now) == "active" for key in kept)
    if not kept and not needs_keys(settings.api):
        served = "anyone who reaches it" if settings.api.allow_anonymous else "this machine"
        return Finding(text=f"there are no API keys, and the API serves {served}")
    return Finding(
        text=f"the API asks for API keys, and {active} of {len(kept)} are active",
        remedy=None if active else "make one with `agent-service keys create ORGANIZATION`",
    )


async def _examine_waiting_callbacks(settings: Settings) -> AsyncIterator[Finding]:
    """Whether somebody delivers the callbacks that wait, if any do."""
    async with open_store(settings) as store:
        try:
            waiting = await store.services.depth(CALLBACK_SERVICE)
            await store.measure_clock()
            signs = await store.workers.seen_since(store.clock.now() - _SEEN_WITHIN) if waiting else []
        except StoreError as error:
            yield Finding(
                text=f"the callbacks cannot be counted: {error}", remedy="see the message; then repeat"
            )
            return
    if waiting and CALLBACK_SERVICE not in {sign.service for sign in signs}:
        yield Finding(
            text=f"{waiting} callbacks wait, and no worker delivers them",
            remedy="run `agent-service worker callback`",
        )
    elif waiting:
        yield Finding(text=f"{waiting} callbacks wait to be delivered")


def _examine_callback_settings(settings: Settings) -> Finding:
    callback = settings.callback
    if not callback.allowed_hosts:
        return Finding(text="CALLBACK_ALLOWED_HOSTS is not set: callbacks are off here")
    hosts = ", ".join(callback.allowed_hosts)
    if callback.secret is None:
        return Finding(
            text=f"callbacks may go to {hosts}; CALLBACK_SECRET is not set: no worker for them can run here"
        )
    return Finding(text=f"callbacks may go to {hosts}")


async def _examine_storage(settings: Settings, uri: str, *, now: datetime) -> list[Finding]:
    mongodb = settings.mongodb
    try:
        facts = await read_storage_facts(uri, database=mongodb.database, now=now, driver=mongodb.driver)
    except StoreError as error:
        return [Finding(text=f"the collections cannot be measured: {error}", remedy="see the message")]
    return judge_storage(settings, facts)


async def _examine_base_service(name: str, base_url: str) -> Finding:
    """Whether somebody listens at the address; nothing is sent, because a call may cost money."""
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    shown = f"the base service of {name} at {parts.hostname}:{port}"
    try:
        async with asyncio.timeout(_CONNECT_LIMIT.total_seconds()):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return Finding(
            text=f"{shown} cannot be reached: {reason}",
            remedy=f"check that it runs and that {name.upper()}_BASE_URL is right",
        )
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Finding(text=f"{shown} takes connections")
