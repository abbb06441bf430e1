"""Descriptive statistics of each field of a list of records."""

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["number", "text", "boolean", "date", "object", "list", "mixed", "empty"]

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSummary:
    """
    `stdev` is that of a sample, null for a single number; `q1` and `q3` are the inclusive quartiles.

    What is too large for a floating point number is null.
    """

    minimum: int | float
    maximum: int | float
    sum: float | None
    mean: float | None
    median: float | None
    stdev: float | None
    q1: float | None
    q3: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueCount:
    """A value and how often it occurs."""

    value: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSummary:
    """Lengths in characters, and the most frequent values first."""

    shortest: int
    longest: int
    average_length: float
    top_values: tuple[ValueCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BooleanSummary:
    """How often each of the two occurs."""

    true: int
    false: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DateSummary:
    """The first and the last, as they were written, and the days between; without a zone means UTC."""

    earliest: str
    latest: str
    span_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStatistics:
    """
    One field over all records; a summary for each kind of value that it holds.

    `count` values are there, `missing` ones are null or absent, `distinct` ones differ. `type` is `mixed`
    when there are several kinds. Texts that are all ISO 8601 dates are dates.
    """

    field: str
    type: Kind
    count: int
    missing: int
    distinct: int
    number: NumberSummary | None = None
    text: TextSummary | None = None
    boolean: BooleanSummary | None = None
    date: DateSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStatistics:
    """The statistics of a list of records, its fields in the order in which they first occur."""

    task: Literal["record_statistics"] = "record_statistics"
    records: int
    fields: tuple[FieldStatistics, ...]


def describe_records(
    records: Sequence[Mapping[str, object]], *, fields: Sequence[str] | None = None, top_values: int = 5
) -> RecordStatistics:
    """Compute the statistics of `fields`, or of every field that occurs."""
    names = list(
        dict.fromkeys(fields if fields is not None else (name for record in records for name in record))
    )
    described = [
        _describe_field(name, [record.get(name) for record in records], top_values) for name in names
    ]
    return RecordStatistics(records=len(records), fields=tuple(described))


def _describe_field(name: str, values: Sequence[object], top_values: int) -> FieldStatistics:
    present = [value for value in values if value is not None]
    numbers = [value for value in present if isinstance(value, int | float) and not isinstance(value, bool)]
    texts = [value for value in present if isinstance(value, str)]
    booleans = [value for value in present if isinstance(value, bool)]
    moments = _read_dates(texts)
    kinds: dict[Kind, bool] = {
        "number": bool(numbers),
        "text": bool(texts) and not moments,
        "date": bool(moments),
        "boolean": bool(booleans),
        "object": any(isinstance(value, Mapping) for value in present),
        "list": any(isinstance(value, list | tuple) for value in present),
    }
    found = [kind for kind, there in kinds.items() if there]
    return FieldStatistics(
        field=name,
        type=found[0] if len(found) == 1 else "mixed" if found else "empty",
        count=len(present),
        missing=len(values) - len(present),
        distinct=len({_identity(value) for value in present}),
        number=_summarize_numbers(numbers) if numbers else None,
        text=_summarize_texts(texts, top_values) if kinds["text"] else None,
        boolean=BooleanSummary(true=sum(booleans), false=len(booleans) - sum(booleans)) if booleans else None,
        date=_summarize_dates(texts, moments) if moments else None,
    )


def _summarize_numbers(numbers: Sequence[int | float]) -> NumberSummary:
    quartiles = (
        statistics.quantiles(numbers, n=4, method="inclusive") if len(numbers) > 1 else [numbers[0]] * 3
    )
    return NumberSummary(
        minimum=min(numbers),
        maximum=max(numbers),
        sum=_bounded(lambda: math.fsum(numbers)),
        mean=_bounded(lambda: statistics.fmean(numbers)),
        median=_bounded(lambda: statistics.median(numbers)),
        stdev=_bounded(lambda: statistics.stdev(numbers)) if len(numbers) > 1 else None,
        q1=_bounded(lambda: quartiles[0]),
        q3=_bounded(lambda: quartiles[2]),
    )


def _bounded(compute: Callable[[], float]) -> float | None:
    """The number, or None when it is beyond what JSON can say."""
    try:
        value = float(compute())
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _summarize_texts(texts: Sequence[str], top_values: int) -> TextSummary:
    lengths = [len(text) for text in texts]
    ordered = sorted(Counter(texts).items(), key=lambda pair: (-pair[1], pair[0]))
    return TextSummary(
        shortest=min(lengths),
        longest=max(lengths),
        average_length=round(sum(lengths) / len(lengths), 2),
        top_values=tuple(ValueCount(value=value, count=count) for value, count in ordered[:top_values]),
    )


def _read_dates(texts: Sequence[str]) -> list[datetime]:
    """The moments, or nothing when one of the texts is no date."""
    moments = []
    for text in texts:
        if not _ISO_DATE.fullmatch(text):
            return []
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return []
        moments.append(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
    return moments


def _summarize_dates(texts: Sequence[str], moments: Sequence[datetime]) -> DateSummary:
    by_time = sorted(zip(moments, texts, strict=True))
    (earliest, first), (latest, last) = by_time[0], by_time[-1]
    days = (latest - earliest).total_seconds() / 86_400
    return DateSummary(earliest=first, latest=last, span_days=round(days, 6))


def _identity(value: object) -> str:
    """Equal for equal JSON values only: true is not 1, and 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)
