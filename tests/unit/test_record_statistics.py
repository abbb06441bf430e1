import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.local.record_statistics import (
    BooleanSummary,
    DateSummary,
    FieldStatistics,
    NumberSummary,
    TextSummary,
    ValueCount,
    describe_records,
)


def describe(*values: object) -> FieldStatistics:
    (field,) = describe_records([{"value": value} for value in values]).fields
    return field


def test_numbers_are_described_by_their_order_and_moments() -> None:
    found = describe(1, 2, 3, 4, 10.0, None)
    assert (found.type, found.count, found.missing, found.distinct) == ("number", 5, 1, 5)
    assert found.number == NumberSummary(
        minimum=1, maximum=10, sum=20, mean=4, median=3, stdev=math.sqrt(12.5), q1=2, q3=4
    )


def test_one_number_has_no_deviation() -> None:
    found = describe(7)
    assert found.number == NumberSummary(
        minimum=7, maximum=7, sum=7, mean=7, median=7, stdev=None, q1=7, q3=7
    )


def test_numbers_whose_sum_is_too_large_have_none() -> None:
    found = describe(1e308, 1e308)
    assert found.number is not None
    assert found.number.maximum == 1e308
    assert found.number.sum is None


def test_texts_are_described_by_length_and_frequency() -> None:
    found = describe("b", "aa", "b", "cccc")
    assert found.text == TextSummary(
        shortest=1,
        longest=4,
        average_length=2,
        top_values=(
            ValueCount(value="b", count=2),
            ValueCount(value="aa", count=1),
            ValueCount(value="cccc", count=1),
        ),
    )
    assert found.type == "text"


def test_booleans_are_not_numbers() -> None:
    found = describe(True, False, True)
    assert (found.type, found.number, found.boolean) == ("boolean", None, BooleanSummary(true=2, false=1))


def test_dates_are_compared_as_moments_over_zones() -> None:
    found = describe("2024-03-01", "2024-02-28T23:00:00-05:00", "2024-02-29T01:00:00Z")
    assert found.type == "date"
    assert found.text is None
    assert found.date == DateSummary(earliest="2024-02-29T01:00:00Z", latest="2024-03-01", span_days=0.958333)


@pytest.mark.parametrize("text", ["20240101", "2024-13-01", "2024-01-01 or so", "12"])
def test_a_text_that_is_no_date_makes_its_field_text(text: str) -> None:
    assert describe("2024-01-01", text).type == "text"


def test_several_kinds_are_mixed_and_each_is_described() -> None:
    found = describe(1, "one", True, [1], {"a": 1})
    assert (found.type, found.distinct) == ("mixed", 5)
    assert found.number is not None
    assert found.text is not None
    assert found.boolean is not None


def test_equal_values_count_once_and_true_is_not_one() -> None:
    assert describe(1, 1.0, True, "1", {"a": 1, "b": 2}, {"b": 2, "a": 1}).distinct == 4


def test_fields_come_in_the_order_of_their_first_record_and_absent_is_missing() -> None:
    found = describe_records([{"b": 1}, {"a": None, "b": 2}])
    assert [(field.field, field.type, field.missing) for field in found.fields] == [
        ("b", "number", 0),
        ("a", "empty", 2),
    ]
    assert [field.field for field in describe_records([{"b": 1}], fields=["z", "b", "z"]).fields] == [
        "z",
        "b",
    ]


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()


@given(st.lists(st.dictionaries(st.text(max_size=2), VALUES | st.lists(VALUES), max_size=4), max_size=8))
def test_any_records_have_statistics_that_are_json(records: list[dict[str, object]]) -> None:
    finite = [
        {name: value for name, value in record.items() if value not in (float("inf"), float("-inf"))}
        for record in records
    ]
    found = describe_records(finite)
    for field in found.fields:
        assert field.count + field.missing == len(records)
    json.dumps(asdict(found), allow_nan=False)
