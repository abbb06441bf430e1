"""What only the garbage collector frees: objects that refer to each other in a cycle."""

import gc
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

#: Where PyMongo leaves a cycle whenever a read is cancelled, which happens when a cursor is opened anew.
_DRIVER = "/pymongo/"


@contextmanager
def counted_garbage() -> Iterator[Counter[str]]:
    """
    Nothing is collected within the block; at its end what only cycles keep is counted by type.

    What the driver leaves of a cancelled read is left out: it is no matter of attempts.
    """
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        _free_errors_of_the_driver()
        gc.garbage.clear()
        gc.collect()
        found.update(f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _free_errors_of_the_driver() -> None:
    for item in gc.garbage:
        if isinstance(item, BaseException) and _DRIVER in "".join(
            frame.filename for frame in traceback.extract_tb(item.__traceback__)
        ):
            item.__traceback__ = item.__context__ = None
