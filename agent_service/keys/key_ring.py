"""
KeyRing: which keys open the API, from the file and from MongoDB together.

It errs on the side of a closed door: where it cannot be known whether keys are in use, nobody is let in
without one, and once a key was made, one is asked for from then on.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

from loguru import logger

from agent_service.domain.api_key import ApiKey, is_genuine, read_key_text
from agent_service.domain.errors import ConfigurationError, StoreUnavailable
from agent_service.keys.key_file import KeyFile
from agent_service.keys.memory import Memory
from agent_service.settings import ApiSettings
from agent_service.store import Store

#: What MongoDB said counts for so long, and for longer while it does not answer.
FRESH = timedelta(seconds=3)
USABLE = timedelta(seconds=10)
#: Ids that are remembered at a time; who tries more of them has them looked up again.
_MOST = 10_000
#: How exactly a key's last use is remembered.
_USE_NOTED_EVERY = timedelta(minutes=5)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """
    The keys of one API process.

    `required` says that nobody gets in without a key even where there is none yet; a key file says so too.
    """

    def __init__(
        self,
        store: Store,
        *,
        file: KeyFile | None = None,
        required: bool = False,
        fresh: timedelta = FRESH,
        usable: timedelta = USABLE,
        wall_clock: Callable[[], datetime] = _wall_clock,
    ) -> None:
        self._store = store
        self._file = file
        self._required = required or file is not None
        self._wall_clock = wall_clock
        self._keys = Memory[ApiKey | None](fresh=fresh, usable=usable, most=_MOST)
        self._any_exist = Memory[bool](fresh=fresh, usable=usable, most=1)
        self._uses = Memory[None](fresh=_USE_NOTED_EVERY, usable=_USE_NOTED_EVERY, most=_MOST)
        #: What was last said to be wrong with the file.
        self._said: str | None = None

    @classmethod
    def of(cls, settings: ApiSettings, store: Store) -> Self:
        """The keys of an API as it is configured. Raises `ConfigurationError` for a wrong file."""
        file = None if settings.keys_file is None else KeyFile(settings.keys_file)
        if file is not None:
            file.keys()
        return cls(store, file=file, required=settings.require_keys)

    async def find(self, text: str) -> ApiKey | None:
        """
        The key with this text, if it opens anything now.

        Raises `StoreError` where nobody can know because the file or MongoDB cannot be read.
        """
        presented = read_key_text(text)
        if presented is None:
            return None
        key = await self._look_up(presented.id)
        if not is_genuine(presented, key) or key is None:
            logger.info("the API key {} was refused: there is none with this id and secret", presented.id)
            return None
        state = key.state(self._wall_clock())
        if state != "active":
            logger.info("the API key {} of {} was refused: it is {}", key.id, key.organization_id, state)
            return None
        return key

    async def anonymous_allowed(self) -> bool:
        """
        Whether a call without a key may be served: only while it is known that no key was ever made.

        Raises `StoreError` where nobody can know.
        """
        if self._required:
            return False
        ask = self._store.keys.any_exist
        if await self._any_exist.recall("", lambda: self._store.calls.run(ask())):
            # For good: that keys are gone again may be an accident.
            self._required = True
            logger.warning("there are API keys now: nobody is served without one any more")
        return not self._required

    async def _look_up(self, key_id: str) -> ApiKey | None:
        """From the file, else from MongoDB."""
        kept, readable = self._in_file(key_id)
        if kept is not None:
            return kept
        ask = self._store.keys.find
        key = await self._keys.recall(key_id, lambda: self._store.calls.run(ask(key_id)))
        if key is None and not readable:
            raise StoreUnavailable("the file of API keys cannot be read now")
        if key is not None:
            await self._uses.recall(key_id, lambda: self._note_use(key_id))
        return key

    def _in_file(self, key_id: str) -> tuple[ApiKey | None, bool]:
        """What the file says of a key, and whether it can be read."""
        if self._file is None:
            return None, True
        try:
            keys = self._file.keys()
        except ConfigurationError as error:
            if str(error) != self._said:
                self._said = str(error)
                logger.error("no API key in the file counts until this is mended: {}", error)
            return None, False
        self._said = None
        return keys.get(key_id), True

    async def _note_use(self, key_id: str) -> None:
        """In passing: nobody waits for it, and nothing depends on it."""
        self._store.calls.start(self._store.keys.note_use(key_id, self._wall_clock()))
