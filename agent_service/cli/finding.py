"""Finding: one thing that the doctor saw."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found; `remedy` is what to do about it, and None where all is well."""

    text: str
    remedy: str | None = None
