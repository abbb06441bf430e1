"""Differences between what two versions read of the same documents, in words."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(previous: Any, present: Any, *, place: str = "") -> Iterator[str]:
    """
    Where the two read the same differently, or where the present version no longer reads a field.

    What only the present version reads is new, and no difference.
    """
    if isinstance(previous, Mapping) and isinstance(present, Mapping):
        for name, value in previous.items():
            inner = f"{place}/{name}"
            if name in present:
                yield from differences(value, present[name], place=inner)
            else:
                yield f"{inner}: only the previous release reads it, as {value!r}"
    elif isinstance(previous, list) and isinstance(present, list) and len(previous) == len(present):
        for number, (one, other) in enumerate(zip(previous, present, strict=True)):
            yield from differences(one, other, place=f"{place}/{number}")
    elif previous != present:
        yield f"{place}: the previous release reads {previous!r}, the present one {present!r}"
